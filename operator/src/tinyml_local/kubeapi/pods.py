"""How does a container become a process of this machine? Environment, volumes as folders, paths
replaced.

Everything here is a function of the pod and of what Secrets and ConfigMaps hold. A container's
image is ignored: its command runs with the programs of this machine. Mount paths and the
termination path are replaced by folders of our own where an argument or an environment value
starts with one, also behind `=` (docs/decisions/001).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from .errors import Object

TERMINATION_LIMIT_BYTES = 4096
FALLBACK_LOG_BYTES = 2048

Lookup = Callable[[str, str], Object | None]
"""(`secrets` or `configmaps`, name) → the object in the pod's namespace, or None."""

_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_.-][A-Za-z0-9_.-]*)\)")
_FIELD_KEY = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")


class ConfigError(Exception):
    """The container cannot be started as it is described. The message says what is missing."""


class NotYetError(ConfigError):
    """Something that the container needs is not there yet: look again later."""


@dataclass(frozen=True)
class Command:
    """A container as a process: what to run, with which environment, where, and where it leaves
    its last word.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    folder: Path
    termination_file: Path


def prepare(
    pod: Object, container: Object, folder: Path, base_env: Mapping[str, str], lookup: Lookup
) -> Command:
    """Return the process for `container`. Volumes are at `folder`/volumes. Raises ConfigError."""
    argv = [*(container.get("command") or ()), *(container.get("args") or ())]
    if not argv:
        raise ConfigError(
            f"container {container['name']!r} has no command: the local environment runs no images"
        )
    if not container.get("command"):
        raise ConfigError(
            f"container {container['name']!r} has args but no command, and no image says which"
        )
    termination = folder / f"{container['name']}.termination"
    places = {container.get("terminationMessagePath") or "/dev/termination-log": str(termination)}
    for mount in container.get("volumeMounts") or ():
        place = _inside(folder / "volumes" / mount["name"], mount.get("subPath") or ".")
        places[mount["mountPath"].rstrip("/")] = str(place)
    own = environment(pod, container, lookup)
    work = container.get("workingDir")
    work_dir = Path(replaced(work, places)) if work else folder / "work"
    return Command(
        tuple(replaced(expanded(a, own), places) for a in argv),
        {**base_env, **{k: replaced(v, places) for k, v in own.items()}},
        work_dir if work_dir.is_dir() else folder / "work",
        termination,
    )


def replaced(value: str, places: Mapping[str, str]) -> str:
    """Return `value` with the path that it starts with, or that follows its first `=`, replaced."""
    for start in (0, value.find("=") + 1):
        tail = value[start:]
        for path in sorted(places, key=len, reverse=True):
            if tail == path or tail.startswith(path + "/"):
                return value[:start] + places[path] + tail[len(path) :]
    return value


def expanded(text: str, env: Mapping[str, str]) -> str:
    """Return `text` with `$(NAME)` replaced where NAME is set; `$$` stands for `$`."""

    def one(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return env.get(match[1], match[0])

    return _REFERENCE.sub(one, text)


def environment(pod: Object, container: Object, lookup: Lookup) -> dict[str, str]:
    """Return the variables that the container asks for. Raises ConfigError."""
    env: dict[str, str] = {}
    for source in container.get("envFrom") or ():
        for field, plural in (("configMapRef", "configmaps"), ("secretRef", "secrets")):
            ref = source.get(field)
            if ref is not None:
                content = _content(plural, ref, lookup)
                prefix = source.get("prefix") or ""
                env |= {prefix + k: v.decode(errors="replace") for k, v in content.items()}
    for variable in container.get("env") or ():
        value = _value(pod, variable, lookup)
        if value is not None:
            env[variable["name"]] = expanded(value, env)
    return env


def make_volumes(pod: Object, folder: Path, lookup: Lookup) -> None:
    """Write the pod's volumes under `folder`/volumes. Raises ConfigError."""
    (folder / "work").mkdir(parents=True, exist_ok=True)
    for volume in pod["spec"].get("volumes") or ():
        place = folder / "volumes" / volume["name"]
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name, data in _volume_files(volume, lookup).items():
            path = _inside(place, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            path.write_bytes(data)


def last_word(command: Command, container: Object, log: Path, exit_code: int) -> str:
    """Return the termination message of a container that has ended."""
    data = b""
    if command.termination_file.is_file():
        data = command.termination_file.read_bytes()[:TERMINATION_LIMIT_BYTES]
    fallback = container.get("terminationMessagePolicy") == "FallbackToLogsOnError"
    if not data and fallback and exit_code != 0 and log.is_file():
        data = log.read_bytes()[-FALLBACK_LOG_BYTES:]
    return data.decode(errors="replace")


def _volume_files(volume: Object, lookup: Lookup) -> dict[str, bytes]:
    if "secret" in volume:
        source = volume["secret"]
        content = _content("secrets", {**source, "name": source.get("secretName", "")}, lookup)
        return _selected(content, source.get("items"), volume["name"])
    if "configMap" in volume:
        source = volume["configMap"]
        return _selected(
            _content("configmaps", source, lookup), source.get("items"), volume["name"]
        )
    if "emptyDir" in volume:
        return {}
    kinds = sorted(set(volume) - {"name"})
    raise ConfigError(
        f"volume {volume['name']!r} is of kind {', '.join(kinds) or 'nothing'}: the local"
        " environment has secret, configMap and emptyDir"
    )


def _selected(
    content: Mapping[str, bytes], items: Sequence[Object] | None, volume: str
) -> dict[str, bytes]:
    if not items:
        return dict(content)
    missing = [i["key"] for i in items if i["key"] not in content]
    if missing:
        raise NotYetError(f"volume {volume!r} references non-existent keys {missing}")
    return {i["path"]: content[i["key"]] for i in items}


def _content(plural: str, ref: Object, lookup: Lookup) -> dict[str, bytes]:
    """Return what a Secret or ConfigMap holds; nothing if it is optional and absent."""
    name = ref.get("name", "")
    obj = lookup(plural, name)
    if obj is None:
        if ref.get("optional"):
            return {}
        raise NotYetError(f'{plural.removesuffix("s")} "{name}" not found')
    if plural == "secrets":
        return {k: base64.b64decode(v) for k, v in (obj.get("data") or {}).items()}
    plain = {k: str(v).encode() for k, v in (obj.get("data") or {}).items()}
    return plain | {k: base64.b64decode(v) for k, v in (obj.get("binaryData") or {}).items()}


def _value(pod: Object, variable: Object, lookup: Lookup) -> str | None:
    source = variable.get("valueFrom")
    if source is None:
        return str(variable.get("value") or "")
    for field, plural in (("secretKeyRef", "secrets"), ("configMapKeyRef", "configmaps")):
        ref = source.get(field)
        if ref is not None:
            content = _content(plural, ref, lookup)
            if ref["key"] in content:
                return content[ref["key"]].decode(errors="replace")
            if ref.get("optional"):
                return None
            raise NotYetError(f"couldn't find key {ref['key']} in {plural} {ref.get('name')}")
    if "fieldRef" in source:
        return _pod_field(pod, source["fieldRef"]["fieldPath"])
    raise ConfigError(
        f"variable {variable['name']!r} takes its value from {sorted(source)}: the local"
        " environment has secretKeyRef, configMapKeyRef and fieldRef"
    )


def _pod_field(pod: Object, path: str) -> str:
    if match := _FIELD_KEY.fullmatch(path):
        return str((pod["metadata"].get(match[1]) or {}).get(match[2], ""))
    known: dict[str, Any] = {
        "metadata.name": pod["metadata"]["name"],
        "metadata.namespace": pod["metadata"]["namespace"],
        "metadata.uid": pod["metadata"]["uid"],
        "spec.nodeName": "local",
        "spec.serviceAccountName": pod["spec"].get("serviceAccountName", "default"),
        "status.hostIP": "127.0.0.1",
        "status.podIP": "127.0.0.1",
    }
    if path not in known:
        raise ConfigError(f"fieldPath {path!r} is not one of {', '.join(known)}")
    return str(known[path])


def _inside(folder: Path, name: str) -> Path:
    """Return `folder`/`name`. Raises ConfigError if that is outside of it."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ConfigError(f"path {name!r} must be relative and without '..'")
    return folder / path
