"""A plain client for the contract suite: HTTP as it is, and kubectl. It does not know which
server it talks to.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import requests
import yaml

T = TypeVar("T")
Object = dict[str, Any]

GROUP = "contract.tinymlaas.dev"
API_VERSION = f"{GROUP}/v1"
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
AS_TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
PATIENCE_S = 40.0


@dataclass(frozen=True)
class Reply:
    """An HTTP reply with a JSON body."""

    code: int
    body: Any
    headers: Any = field(repr=False, default=None)

    @property
    def message(self) -> str:
        return str(self.body.get("message", ""))


@dataclass
class Kube:
    """One server. `kubeconfig` is what kubectl gets."""

    kubeconfig: Path
    url: str = ""
    session: requests.Session = field(default_factory=requests.Session)
    folder: Path = Path()

    @classmethod
    def of(cls, kubeconfig: Path, folder: Path) -> Kube:
        """Return a client for the current context of `kubeconfig`; `folder` is for its
        credentials.
        """
        config = yaml.safe_load(kubeconfig.read_text())
        name = config.get("current-context")
        context = next(c["context"] for c in config["contexts"] if c["name"] == name)
        cluster = next(c["cluster"] for c in config["clusters"] if c["name"] == context["cluster"])
        user = next(u["user"] for u in config["users"] if u["name"] == context["user"])
        session = requests.Session()
        session.trust_env = False
        session.verify = _file(cluster, "certificate-authority", folder)
        if "token" in user:
            session.headers["Authorization"] = f"Bearer {user['token']}"
        else:
            session.cert = (
                _file(user, "client-certificate", folder),
                _file(user, "client-key", folder),
            )
        return cls(kubeconfig, cluster["server"].rstrip("/"), session, folder)

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str = "application/json",
        accept: str = "application/json",
        token: str | None = None,
        **params: Any,
    ) -> Reply:
        """Send one request; `params` are the query."""
        headers = {"Accept": accept, "User-Agent": "contract-suite/1"}
        data = None
        if body is not None:
            headers["Content-Type"] = content_type
            data = json.dumps(body)
        session = self.session
        if token is not None:
            session = requests.Session()
            session.trust_env = False
            session.verify = self.session.verify
            headers["Authorization"] = f"Bearer {token}"
        found = session.request(
            method, self.url + path, params=params, data=data, headers=headers, timeout=30
        )
        try:
            parsed = found.json()
        except ValueError:
            parsed = {"message": found.text}
        return Reply(found.status_code, parsed, found.headers)

    def get(self, path: str, **params: Any) -> Object:
        """Return what is at `path`, which must be there."""
        return self._good(self.request("GET", path, **params))

    def create(self, path: str, body: Object, **params: Any) -> Object:
        """Create in the collection `path`; it must succeed."""
        return self._good(self.request("POST", path, body, **params))

    def merge(self, path: str, patch: Any, **params: Any) -> Object:
        """Merge-patch; it must succeed."""
        return self._good(self.request("PATCH", path, patch, content_type=MERGE_PATCH, **params))

    def apply(self, path: str, body: Object, manager: str, **params: Any) -> Reply:
        """Server-side apply."""
        return self.request(
            "PATCH", path, body, content_type=APPLY_PATCH, fieldManager=manager, **params
        )

    def delete(self, path: str, **options: Any) -> Reply:
        """Delete; `options` are DeleteOptions."""
        return self.request("DELETE", path, options or None)

    def is_gone(self, path: str) -> bool:
        return self.request("GET", path).code == 404

    @contextmanager
    def watch(self, path: str, **params: Any) -> Iterator[Iterator[Object]]:
        """Yield the events of a watch; reading more than there come within 20 s is an error."""
        query = {"watch": "true", "timeoutSeconds": 20, **params}
        with self.session.get(self.url + path, params=query, stream=True, timeout=30) as response:
            assert response.status_code == 200, response.text
            yield (json.loads(line) for line in response.iter_lines(chunk_size=1) if line)

    def kubectl(self, *args: str, stdin: str | None = None, editor: str = "", code: int = 0) -> str:
        """Run kubectl and return what it printed; its exit status must be `code`."""
        env = {**os.environ, "KUBECONFIG": str(self.kubeconfig), "HOME": str(self.folder)}
        if editor:
            env["EDITOR"] = env["KUBE_EDITOR"] = editor
        found = subprocess.run(
            ["kubectl", *args],
            input=stdin if stdin is not None else "",
            env=env,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert found.returncode == code, f"{args}: {found.stdout}\n{found.stderr}"
        return found.stdout + found.stderr

    def _good(self, reply: Reply) -> Object:
        assert reply.code < 300, f"{reply.code}: {reply.body}"
        found: Object = reply.body
        return found


def eventually(look: Callable[[], T], what: str, patience_s: float = PATIENCE_S) -> T:
    """Return what `look` returns as soon as it is true; fail naming `what` after `patience_s`."""
    end = time.monotonic() + patience_s
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < end, f"{what}: not within {patience_s:.0f} s, last {found!r}"
        time.sleep(0.1)


def widget(name: str = "", namespace: str = "", /, **spec: Any) -> Object:
    """Return a Widget of the suite's own CRD."""
    meta: Object = {"name": name} if name else {"generateName": "w-"}
    if namespace:
        meta["namespace"] = namespace
    head = {"apiVersion": API_VERSION, "kind": "Widget", "metadata": meta}
    return {**head, "spec": {"size": 1, **spec}}


def widgets(namespace: str, name: str = "", sub: str = "") -> str:
    """Return the path of the namespace's Widgets, or of one."""
    parts = ("/apis", API_VERSION, "namespaces", namespace, "widgets", name, sub)
    return "/".join(p for p in parts if p)


def config_maps(namespace: str, name: str = "") -> str:
    """Return the path of the namespace's ConfigMaps, or of one."""
    return "/".join(p for p in ("/api/v1/namespaces", namespace, "configmaps", name) if p)


def config_map(name: str, **data: str) -> Object:
    """Return a ConfigMap."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def _file(entry: Object, key: str, folder: Path) -> str:
    if f"{key}-data" not in entry:
        return str(entry[key])
    descriptor, path = tempfile.mkstemp(dir=folder)
    with os.fdopen(descriptor, "wb") as file:
        file.write(base64.b64decode(entry[f"{key}-data"]))
    return path
