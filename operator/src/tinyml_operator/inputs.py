"""The files of a build, as URLs that a pod without credentials can read.

An `s3://` address becomes a presigned URL, a ConfigMap's file is copied into the store first, and
`https://` is passed on where its host is allowed. What stands in the way becomes a `Problem`.
"""

from __future__ import annotations

import base64
import binascii
import re
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from tinyml_api.build import ARTIFACTS, sha256_digest
from tinyml_api.conditions import Reason
from tinyml_kube.cluster import Cluster, Object, Ref
from tinyml_kube.resources import CONFIG_MAP

from tinyml_operator.reconcile import modelbuild
from tinyml_operator.settings import Settings
from tinyml_operator.storage import Storage, StorageError, build_prefix, input_key

_PLAIN_URI = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?/[!-\[\]-~]*")


async def inputs_of(
    cluster: Cluster,
    storage: Storage,
    settings: Settings,
    observed: modelbuild.Observed,
    sources: modelbuild.Sources,
    now: datetime,
) -> modelbuild.Inputs | modelbuild.Problem:
    """Make the URLs of an attempt, or say what stands in the way."""
    spec, namespace = observed.spec, observed.meta.namespace
    seconds = settings.url_lifetime_s
    try:
        resolver = _Resolver(cluster, storage, settings, namespace)
        model = await resolver.url(sources.model, spec.model.sha256)
        calibration = ""
        if spec.quantization.calibration is not None:
            wanted = spec.quantization.calibration.sha256
            calibration = await resolver.url(sources.calibration or "", wanted)
        prefix = build_prefix(namespace, spec.request_digest)
        uploads = {
            name: await storage.put_url(prefix + name, seconds=seconds) for name in ARTIFACTS
        }
    except _ProblemError as found:
        return found.problem
    except StorageError as error:
        return modelbuild.Problem(Reason.STORAGE_UNREACHABLE, str(error))
    expires = now + timedelta(seconds=seconds)
    return modelbuild.Inputs(model, calibration, uploads, expires)


def host_of(uri: str) -> str | None:
    """Return the host of an http(s) URI in lower case, or None where clients may disagree on it.

    Parsers differ on what a backslash, a space or a user name before `@` means; the builder's must
    go where this one looked.
    """
    if not _PLAIN_URI.fullmatch(uri):
        return None
    try:
        parts = urlsplit(uri)
        return parts.hostname if parts.port is None or parts.port > 0 else None
    except ValueError:
        return None


class _ProblemError(Exception):
    def __init__(self, reason: Reason, message: str, *, final: bool = False) -> None:
        super().__init__(message)
        self.problem = modelbuild.Problem(reason, message, final)


class _Resolver:
    """Turns what a manifest names into a URL that a pod without credentials can read."""

    def __init__(
        self, cluster: Cluster, storage: Storage, settings: Settings, namespace: str
    ) -> None:
        self._cluster = cluster
        self._storage = storage
        self._settings = settings
        self._namespace = namespace

    async def url(self, uri: str, sha256: str) -> str:
        scheme, _, rest = uri.partition("://")
        where, _, path = rest.partition("/")
        if scheme == "s3":  # a key may hold ? and #
            return await self._s3(uri, where, path)
        if scheme == "configmap":
            return await self._config_map(where, path, sha256)
        host = host_of(uri)
        allowed = self._settings.allowed_hosts
        if host not in {name.lower() for name in allowed}:
            there = ", ".join(allowed) or "none"
            raise _ProblemError(
                Reason.SOURCE_NOT_ALLOWED,
                f"{uri}: host {host!r} is not one of the operator's allowed hosts "
                f"({there}): use s3://, or add the host to TINYML_ALLOWED_HOSTS",
                final=True,
            )
        return uri

    async def _s3(self, uri: str, bucket: str, key: str) -> str:
        settings = self._settings
        allowed = (*settings.allowed_buckets, self.bucket)
        if "*" not in allowed and bucket not in allowed:
            there = ", ".join(allowed)
            raise _ProblemError(
                Reason.SOURCE_NOT_ALLOWED,
                f"{uri}: bucket {bucket!r} is not one of the operator's allowed buckets "
                f"({there}): use one of these, or add the bucket to TINYML_ALLOWED_BUCKETS",
                final=True,
            )
        if not {"", ".", ".."}.isdisjoint(key.split("/")):  # a client may resolve them
            raise _ProblemError(
                Reason.SOURCE_NOT_ALLOWED,
                f"{uri}: a key with empty, '.' or '..' segments is not read: name it another way",
                final=True,
            )
        space, _, rest = key.partition("/")
        foreign = space != self._namespace and rest.startswith(("builds/", "inputs/"))
        if bucket == self.bucket and foreign:
            raise _ProblemError(
                Reason.SOURCE_NOT_ALLOWED,
                f"{uri}: artifacts of namespace {space!r} are not for {self._namespace!r}",
                final=True,
            )
        try:
            size = await self._storage.size(bucket, key)
        except StorageError as error:
            raise _ProblemError(Reason.SOURCE_UNREACHABLE, f"{uri}: {error}") from error
        if size is None:
            raise _ProblemError(
                Reason.SOURCE_UNREACHABLE,
                f"{uri}: bucket {bucket!r} has no object {key!r}: upload it, or correct the URI",
            )
        return await self._storage.get_url(bucket, key, seconds=settings.url_lifetime_s)

    async def _config_map(self, name: str, key: str, sha256: str) -> str:
        where = f"configmap://{name}/{key}"
        found = await self._cluster.get(Ref(CONFIG_MAP, self._namespace, name))
        if found is None:
            raise _ProblemError(
                Reason.SOURCE_UNREACHABLE,
                f"{where}: namespace {self._namespace!r} has no ConfigMap {name!r}: create it",
            )
        data = _file_of(found, key)
        if data is None:
            keys = ", ".join(sorted({*(found.get("data") or {}), *(found.get("binaryData") or {})}))
            raise _ProblemError(
                Reason.SOURCE_UNREACHABLE,
                f"{where}: ConfigMap {name!r} has no key {key!r}, only: {keys or 'none'}",
            )
        digest = sha256_digest(data)
        if digest != sha256:
            raise _ProblemError(
                Reason.DIGEST_MISMATCH,
                f"{where}: {len(data)} bytes with {digest}, the manifest names {sha256}: correct "
                "its sha256, or the ConfigMap",
            )
        stored = input_key(self._namespace, sha256)
        if await self._storage.size(self.bucket, stored) is None:
            await self._storage.put(stored, data)
        return await self._storage.get_url(
            self.bucket, stored, seconds=self._settings.url_lifetime_s
        )

    @property
    def bucket(self) -> str:
        return self._storage.bucket


def _file_of(config_map: Object, key: str) -> bytes | None:
    binary = (config_map.get("binaryData") or {}).get(key)
    if binary is not None:
        try:
            return base64.b64decode(binary, validate=True)
        except binascii.Error:
            return None
    text = (config_map.get("data") or {}).get(key)
    return text.encode() if text is not None else None
