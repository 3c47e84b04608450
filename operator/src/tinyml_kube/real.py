"""`KubernetesCluster`: the port on a real API server, through the `kubernetes` package's client.

Works on paths and plain dicts, so every kind is served by the same few lines; the package gives
configuration, credentials (files, tokens that are renewed, exec plug-ins), TLS and connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urlencode

import aiohttp
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config import load_incluster_config, load_kube_config

from tinyml_kube.cluster import Object, Ref, Resource, WatchEvent
from tinyml_kube.errors import (
    AlreadyExistsError,
    ClusterError,
    ConflictError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    UnavailableError,
)
from tinyml_kube.resources import ref_of, resource_of

REQUEST_TIMEOUT_S = 30.0
WATCH_TIMEOUT_S = 290  # the server ends a watch after this; we begin another
PAGE = 500
MAX_BACKOFF_S = 30.0

_MERGE_PATCH = "application/merge-patch+json"
_APPLY_PATCH = "application/apply-patch+yaml"

log = logging.getLogger(__name__)


class KubernetesCluster:
    """A `Cluster` on the network. Use as an async context manager, or call `close`.

    The configuration is read at the first call: making one does no I/O.
    """

    def __init__(self, kubeconfig: Path | str | None = None, *, context: str | None = None) -> None:
        """Use `kubeconfig`, else $KUBECONFIG, else the pod's account, else ~/.kube/config."""
        self._kubeconfig = str(kubeconfig) if kubeconfig is not None else None
        self._context = context
        self._made: ApiClient | None = None
        self._making = asyncio.Lock()

    @classmethod
    def from_kubeconfig(cls, path: Path | str, *, context: str | None = None) -> Self:
        return cls(path, context=context)

    async def close(self) -> None:
        if self._made is not None:
            made, self._made = self._made, None
            await made.close()  # type: ignore[no-untyped-call]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def get(self, ref: Ref) -> Object | None:
        try:
            return await self._call("GET", _path(ref), what=_name(ref))
        except NotFoundError:
            return None

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        labels: Mapping[str, str] | None = None,
        name: str | None = None,
    ) -> Sequence[Object]:
        items, _ = await self._list(resource, namespace, labels=labels, name=name)
        return items

    async def create(self, obj: Object) -> Object:
        resource = resource_of(obj)
        metadata = obj["metadata"]
        what = f"{resource.plural} {metadata.get('name', metadata.get('generateName'))!r}"
        path = _collection(resource, metadata.get("namespace"))
        return await self._call("POST", path, body=obj, what=what)

    async def apply(self, obj: Object, *, field_manager: str) -> Object:
        ref = ref_of(obj)
        return await self._call(
            "PATCH",
            _path(ref),
            query={"fieldManager": field_manager, "force": "true"},
            body=obj,
            content_type=_APPLY_PATCH,
            what=_name(ref),
        )

    async def patch(self, ref: Ref, patch: Mapping[str, Any]) -> Object:
        return await self._call(
            "PATCH", _path(ref), body=patch, content_type=_MERGE_PATCH, what=_name(ref)
        )

    async def patch_status(
        self,
        ref: Ref,
        status: Mapping[str, Any] | None,
        *,
        resource_version: str | None = None,
    ) -> Object:
        body: dict[str, Any] = {"status": status}
        if resource_version is not None:
            body["metadata"] = {"resourceVersion": resource_version}
        return await self._call(
            "PATCH",
            _path(ref) + "/status",
            body=body,
            content_type=_MERGE_PATCH,
            what=_name(ref),
        )

    async def delete(self, ref: Ref, *, uid: str | None = None) -> None:
        options: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
        }
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        with contextlib.suppress(NotFoundError, ConflictError):  # conflict: another uid
            await self._call("DELETE", _path(ref), body=options, what=_name(ref))

    async def watch(
        self, resource: Resource, namespace: str | None = None, *, name: str | None = None
    ) -> AsyncIterator[WatchEvent]:
        known: dict[tuple[str | None, str], Object] = {}
        backoff_s = 1.0
        while True:
            try:
                items, version = await self._list(resource, namespace, name=name)
                for event in _difference(known, items):
                    yield event
                while True:
                    async for event in self._watch_once(resource, namespace, name, version):
                        version = event.object["metadata"]["resourceVersion"]
                        backoff_s = 1.0
                        if event.type == "BOOKMARK":
                            continue
                        _remember(known, event)
                        yield event
            except _ExpiredError:
                log.debug("watch expired resource=%s", resource.plural)
            except (UnavailableError, NotFoundError, ForbiddenError) as error:
                log.warning("watch broke resource=%s error=%s", resource.plural, error)
                await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))
                backoff_s = min(backoff_s * 2, MAX_BACKOFF_S)

    async def review_token(self, token: str) -> str | None:
        review = await self._call(
            "POST",
            "/apis/authentication.k8s.io/v1/tokenreviews",
            body={
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenReview",
                "spec": {"token": token},
            },
            what="tokenreviews",
        )
        status = review.get("status") or {}
        if not status.get("authenticated"):
            return None
        user = (status.get("user") or {}).get("username")
        return user if isinstance(user, str) else None

    async def create_token(self, namespace: str, service_account: str, *, seconds: int) -> str:
        path = f"/api/v1/namespaces/{quote(namespace)}/serviceaccounts/{quote(service_account)}"
        answer = await self._call(
            "POST",
            path + "/token",
            body={
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenRequest",
                "spec": {"expirationSeconds": seconds},
            },
            what=f"serviceaccounts {service_account!r}",
        )
        return str(answer["status"]["token"])

    async def _list(
        self,
        resource: Resource,
        namespace: str | None,
        *,
        labels: Mapping[str, str] | None = None,
        name: str | None = None,
    ) -> tuple[Sequence[Object], str]:
        query: dict[str, str] = {"limit": str(PAGE)} | _selectors(labels, name)
        items = []
        while True:
            page = await self._call(
                "GET", _collection(resource, namespace), query=query, what=resource.plural
            )
            for item in page.get("items") or []:
                # Lists leave these out; callers want whole objects.
                item.setdefault("apiVersion", resource.api_version)
                item.setdefault("kind", resource.kind)
                items.append(item)
            metadata = page.get("metadata") or {}
            if not metadata.get("continue"):
                return items, str(metadata.get("resourceVersion", ""))
            query["continue"] = metadata["continue"]

    async def _watch_once(
        self, resource: Resource, namespace: str | None, name: str | None, version: str
    ) -> AsyncIterator[WatchEvent]:
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(WATCH_TIMEOUT_S),
        } | _selectors(None, name)
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=REQUEST_TIMEOUT_S, sock_read=WATCH_TIMEOUT_S + 30
        )
        url = _collection(resource, namespace)
        response = await self._send("GET", url, query, None, None, timeout)
        try:
            if response.status == 410:
                raise _ExpiredError
            if response.status >= 400:
                raise _error(response.status, await response.read(), resource.plural)
            async for line in response.content:
                raw = json.loads(line)
                if raw["type"] == "ERROR":
                    if raw["object"].get("code") == 410:
                        raise _ExpiredError
                    raise UnavailableError(f"{resource.plural}: {raw['object'].get('message')}")
                yield WatchEvent(raw["type"], raw["object"])
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise UnavailableError(f"{resource.plural}: watch ended: {error!r}") from error
        finally:
            response.close()

    async def _call(
        self,
        method: str,
        path: str,
        *,
        what: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> Object:
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
        response = await self._send(method, path, query, body, content_type, timeout)
        try:
            data = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise UnavailableError(f"{what}: no whole answer: {error!r}") from error
        if response.status >= 400:
            raise _error(response.status, data, what)
        try:
            answer: Object = json.loads(data)
        except ValueError as error:  # a proxy's page
            raise UnavailableError(f"{what}: the answer is not JSON: {data[:80]!r}") from error
        return answer

    async def _client(self) -> ApiClient:
        async with self._making:
            if self._made is None:
                self._made = await _load(self._kubeconfig, self._context)
        return self._made

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Mapping[str, Any] | None,
        content_type: str | None,
        timeout: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        client = await self._client()
        configuration = client.configuration
        headers = {"Accept": "application/json", "User-Agent": "tinymlaas"}
        if content_type is not None and body is not None:
            headers["Content-Type"] = content_type
        token = await configuration.get_api_key_with_prefix("BearerToken")
        if token:
            headers["Authorization"] = token
        url = configuration.host + path + (f"?{urlencode(query)}" if query else "")
        try:
            answer = await client.rest_client.request(  # type: ignore[no-untyped-call]
                method, url, headers=headers, body=body, _request_timeout=timeout
            )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UnavailableError(f"{method} {path}: {error!r}") from error
        response: aiohttp.ClientResponse = answer.response
        return response


async def _load(kubeconfig: str | None, context: str | None) -> ApiClient:
    configuration = Configuration()
    path = kubeconfig or os.environ.get("KUBECONFIG")
    if path is None and os.environ.get("KUBERNETES_SERVICE_HOST"):
        load_incluster_config(  # type: ignore[no-untyped-call]
            client_configuration=configuration
        )
    else:
        await load_kube_config(  # type: ignore[no-untyped-call]
            config_file=path,
            context=context,
            client_configuration=configuration,
            persist_config=False,
        )
    return ApiClient(configuration=configuration)


class _ExpiredError(Exception):
    """The server has forgotten the version that a watch began at."""


def _selectors(labels: Mapping[str, str] | None, name: str | None) -> dict[str, str]:
    query = {}
    if labels:
        query["labelSelector"] = ",".join(f"{k}={v}" for k, v in sorted(labels.items()))
    if name is not None:
        query["fieldSelector"] = f"metadata.name={name}"
    return query


def _collection(resource: Resource, namespace: str | None) -> str:
    base = f"/apis/{resource.group}" if resource.group else "/api"
    scope = f"/namespaces/{quote(namespace)}" if namespace is not None else ""
    return f"{base}/{resource.version}{scope}/{resource.plural}"


def _path(ref: Ref) -> str:
    return f"{_collection(ref.resource, ref.namespace)}/{quote(ref.name)}"


def _name(ref: Ref) -> str:
    where = f" in namespace {ref.namespace!r}" if ref.namespace else ""
    return f"{ref.resource.plural} {ref.name!r}{where}"


def _key(obj: Object) -> tuple[str | None, str]:
    return obj["metadata"].get("namespace"), obj["metadata"]["name"]


def _remember(known: dict[tuple[str | None, str], Object], event: WatchEvent) -> None:
    if event.type == "DELETED":
        known.pop(_key(event.object), None)
    else:
        known[_key(event.object)] = _stub(event.object)


def _stub(obj: Object) -> Object:
    """What a DELETED event needs if the deletion itself was missed."""
    keep = ("name", "namespace", "uid", "labels", "ownerReferences", "resourceVersion")
    metadata = {k: v for k, v in obj["metadata"].items() if k in keep}
    return {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": metadata}


def _difference(
    known: dict[tuple[str | None, str], Object], items: Sequence[Object]
) -> list[WatchEvent]:
    """Return the events that lead from `known` to `items`, and bring `known` up to date."""
    events = []
    there = {_key(item): item for item in items}
    for key in [k for k in known if k not in there]:
        events.append(WatchEvent("DELETED", known.pop(key)))
    for key, item in there.items():
        old = known.get(key)
        if old is None:
            events.append(WatchEvent("ADDED", item))
        elif old["metadata"]["resourceVersion"] != item["metadata"]["resourceVersion"]:
            events.append(WatchEvent("MODIFIED", item))
        known[key] = _stub(item)
    return events


_ERRORS: Mapping[int, type[ClusterError]] = {
    400: InvalidError,
    401: ForbiddenError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    413: InvalidError,
    415: InvalidError,
    422: InvalidError,
}


def _error(status: int, data: bytes, what: str) -> ClusterError:
    reason, message = "", data.decode(errors="replace")[:500]
    with contextlib.suppress(ValueError, AttributeError):
        answer = json.loads(data)
        reason = str(answer.get("reason", ""))
        message = str(answer.get("message", message))
    if reason == "AlreadyExists":
        return AlreadyExistsError(message)
    return _ERRORS.get(status, UnavailableError)(f"{what}: {status} {reason}: {message}")
