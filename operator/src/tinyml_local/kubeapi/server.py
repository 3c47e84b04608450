"""The HTTP face of the local Kubernetes API: routes, authentication, and replies as Kubernetes
gives them.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

from aiohttp import web

from . import discovery, errors, patches, watching
from .errors import ApiError, Object
from .identity import Tokens, User
from .kinds import Kind, Review
from .registry import Registry
from .requests import (
    BODY_TYPES,
    PATCH_TYPES,
    Form,
    Listing,
    Target,
    continue_token,
    continued_version,
    delete_options,
    form,
    listing,
    parse_body,
    parse_target,
    write_options,
)
from .reviews import answer_review, issue_token
from .tables import partial, table

logger = logging.getLogger(__name__)

BODY_LIMIT_BYTES = 3 * 1024 * 1024
_USER = web.RequestKey("user", User)
_OPEN_PATHS = frozenset({"/healthz", "/livez", "/readyz"})
_LOG_POLL_S = 0.2


class Logs(Protocol):
    """Where the output of pods is."""

    def log_file(self, pod: Object, container: str) -> Path | None:
        """Return the file that a container's output goes to; None if it never ran."""


class Server:
    """The request handlers. `logs` is None where no pods are run."""

    def __init__(self, registry: Registry, tokens: Tokens, logs: Logs | None) -> None:
        self._registry = registry
        self._tokens = tokens
        self._logs = logs
        self._documents = discovery.OpenApi(registry.kinds)

    def app(self) -> web.Application:
        """Return the application to serve."""
        app = web.Application(client_max_size=BODY_LIMIT_BYTES, middlewares=[self._middleware])
        app.router.add_get("/healthz", _ok)
        app.router.add_get("/livez", _ok)
        app.router.add_get("/readyz", _ok)
        app.router.add_get("/version", _version)
        app.router.add_get("/version/", _version)
        app.router.add_get("/api", self._core)
        app.router.add_get("/apis", self._groups)
        app.router.add_get("/apis/{group}", self._group)
        app.router.add_get("/api/v1", self._resources)
        app.router.add_get("/apis/{group}/{version}", self._resources)
        app.router.add_get("/openapi/v3", self._openapi_index)
        app.router.add_get("/openapi/v3/api/{version}", self._openapi)
        app.router.add_get("/openapi/v3/apis/{group}/{version}", self._openapi)
        app.router.add_route("*", "/api/{tail:.*}", self._resource)
        app.router.add_route("*", "/apis/{tail:.*}", self._resource)
        return app

    @web.middleware
    async def _middleware(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        try:
            if request.path not in _OPEN_PATHS:
                request[_USER] = self._authenticated(request)
            return await handler(request)
        except ApiError as e:
            return _json(e.status(), e.code)
        except web.HTTPRequestEntityTooLarge:
            error = ApiError(
                413,
                "RequestEntityTooLarge",
                f"Request entity too large: limit is {BODY_LIMIT_BYTES}",
            )
            return _json(error.status(), 413)
        except web.HTTPException as e:
            error = errors.no_such_path() if e.status == 404 else errors.method_not_allowed()
            return _json(error.status(), error.code)
        except Exception as e:
            logger.exception("request failed method=%s path=%s", request.method, request.path)
            error = ApiError(500, "InternalError", f"Internal error occurred: {e!r}")
            return _json(error.status(), 500)

    def _authenticated(self, request: web.Request) -> User:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        user = None
        if scheme.lower() == "bearer":
            user = self._tokens.user(token.strip(), self._registry.clock())
        if user is None:
            raise ApiError(401, "Unauthorized", "Unauthorized")
        return user

    # -- discovery -----------------------------------------------------------------------------

    async def _core(self, request: web.Request) -> web.Response:
        return _json(discovery.core_versions(request.host))

    async def _groups(self, _: web.Request) -> web.Response:
        return _json(discovery.group_list(self._registry.kinds))

    async def _group(self, request: web.Request) -> web.Response:
        return _json(_found(discovery.group(self._registry.kinds, request.match_info["group"])))

    async def _resources(self, request: web.Request) -> web.Response:
        group, version = (
            request.match_info.get("group", ""),
            request.match_info.get("version", "v1"),
        )
        return _json(_found(discovery.resource_list(self._registry.kinds, group, version)))

    async def _openapi_index(self, _: web.Request) -> web.Response:
        return _json(self._documents.index())

    async def _openapi(self, request: web.Request) -> web.Response:
        group, version = request.match_info.get("group", ""), request.match_info["version"]
        document = self._documents.document(group, version)
        if document is None:
            raise errors.no_such_path()
        return web.Response(body=document, content_type="application/json")

    # -- objects -------------------------------------------------------------------------------

    async def _resource(self, request: web.Request) -> web.StreamResponse:
        target = parse_target(self._registry.kinds, request.path)
        if isinstance(target.kind, Review):
            if request.method != "POST" or target.name:
                raise errors.method_not_allowed()
            body = await _body(request, BODY_TYPES)
            now = self._registry.clock()
            review = answer_review(target.kind, body, self._tokens, request[_USER], now)
            return _json(review, 201)
        if target.sub == "log":
            return await self._log(request, target)
        if target.sub == "token":
            return await self._token(request, target)
        handler = (_ONE if target.name else _COLLECTION).get(request.method)
        if handler is None or (target.sub and request.method == "DELETE"):
            raise errors.method_not_allowed()
        return await handler(self, request, target, target.kind)

    async def _get(self, request: web.Request, target: Target, kind: Kind) -> web.StreamResponse:
        if request.query.get("watch") in ("true", "1"):
            return await self._watch(request, target, kind)
        obj = self._registry.get(kind, target.namespace, target.name)
        return self._object(request, kind, obj)

    async def _list(self, request: web.Request, target: Target, kind: Kind) -> web.StreamResponse:
        wanted = listing(request.query, kind)
        if wanted.watch:
            return await self._watch(request, target, kind)
        found = [
            self._registry.presented(kind, o)
            for o in self._registry.store.items(kind.key, target.namespace or None)
            if wanted.matches(o)
        ]
        page, meta = self._page(found, wanted, request.query.get("continue", ""))
        shape = form(request.headers.get("Accept", ""))
        if shape is Form.TABLE:
            include = request.query.get("includeObject", "Metadata")
            return _json(table(kind, page, meta, self._registry.clock(), include))
        head: Object = {"kind": kind.list_kind, "apiVersion": kind.api_version, "metadata": meta}
        if shape is Form.METADATA:
            head |= {"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1"}
            return _json({**head, "items": [partial(o) for o in page]})
        return _json({**head, "items": page})

    def _page(
        self, found: list[Object], wanted: Listing, token: str
    ) -> tuple[list[Object], Object]:
        """Return the page that was asked for, and the list's metadata."""
        version = continued_version(token) if token else str(self._registry.store.version)
        if wanted.after is not None:
            found = [o for o in found if _address(o) > wanted.after]
        meta: Object = {"resourceVersion": version}
        if not wanted.limit or len(found) <= wanted.limit:
            return found, meta
        page = found[: wanted.limit]
        meta["continue"] = continue_token(_address(page[-1]), version)
        if not wanted.selective:
            meta["remainingItemCount"] = len(found) - len(page)
        return page, meta

    async def _watch(self, request: web.Request, target: Target, kind: Kind) -> web.StreamResponse:
        wanted = listing(request.query, kind, target.name)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        shape = form(request.headers.get("Accept", ""))
        lines = watching.events(self._registry, kind, target.namespace, wanted, shape)
        try:
            async for line in lines:
                await response.write(line)
        except ConnectionError:
            return response  # the client has gone
        finally:
            await lines.aclose()  # type: ignore[attr-defined]  # it is a generator
        await response.write_eof()
        return response

    async def _create(self, request: web.Request, target: Target, kind: Kind) -> web.StreamResponse:
        if kind.namespaced and not target.namespace:
            raise errors.method_not_allowed()
        body = await _body(request, BODY_TYPES)
        options = write_options(request.query, request.headers.get("User-Agent", ""))
        obj = self._registry.create(kind, target.namespace, body, options)
        return self._object(request, kind, obj, 201, options.warnings)

    async def _replace(
        self, request: web.Request, target: Target, kind: Kind
    ) -> web.StreamResponse:
        body = await _body(request, BODY_TYPES)
        options = write_options(request.query, request.headers.get("User-Agent", ""))
        obj = self._registry.replace(kind, target.namespace, target.name, body, options, target.sub)
        return self._object(request, kind, obj, 200, options.warnings)

    async def _patch(self, request: web.Request, target: Target, kind: Kind) -> web.StreamResponse:
        accepted = tuple(t for t in PATCH_TYPES if kind.builtin or "strategic" not in t)
        media = request.content_type
        if media not in accepted:
            raise errors.unsupported_media_type(media, accepted)
        body = await _body(request, accepted)
        options = write_options(request.query, request.headers.get("User-Agent", ""))
        where = (kind, target.namespace, target.name)
        if media.startswith("application/apply-patch"):
            if "fieldManager" not in request.query:
                raise errors.bad_request("fieldManager is required for apply patch")
            obj, new = self._registry.apply(*where, body, options, target.sub)
            return self._object(request, kind, obj, 201 if new else 200, options.warnings)

        def change(old: Object) -> Any:
            if media == "application/json-patch+json":
                return patches.json_patch(old, body)
            if not isinstance(body, dict):
                raise errors.bad_request("the body of a merge patch is an object")
            if media == "application/merge-patch+json":
                return patches.merge_patch(old, body)
            return patches.strategic_merge(kind.schema, old, body)

        obj = self._registry.patch(*where, change, options, target.sub)
        return self._object(request, kind, obj, 200, options.warnings)

    async def _delete(self, request: web.Request, target: Target, kind: Kind) -> web.StreamResponse:
        options = delete_options(request.query, await _body(request, BODY_TYPES))
        obj = self._registry.delete(kind, target.namespace, target.name, options)
        still_there = self._registry.store.get(kind.key, (target.namespace, target.name))
        if still_there is not None or kind.plural == "pods":
            return _json(still_there or obj)
        details = {
            "name": target.name,
            "group": kind.group,
            "kind": kind.plural,
            "uid": obj["metadata"]["uid"],
        }
        head = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
        return _json({**head, "details": details})

    async def _delete_all(
        self, request: web.Request, target: Target, kind: Kind
    ) -> web.StreamResponse:
        if kind.namespaced and not target.namespace:
            raise errors.method_not_allowed()
        options = delete_options(request.query, await _body(request, BODY_TYPES))
        wanted = listing(request.query, kind)
        found = self._registry.store.items(kind.key, target.namespace or None)
        gone = [o for o in found if wanted.matches(o)]
        for obj in gone:
            namespace, name = _address(obj)
            self._registry.delete(kind, namespace, name, options)
        meta = {"resourceVersion": str(self._registry.store.version)}
        head = {"kind": kind.list_kind, "apiVersion": kind.api_version, "metadata": meta}
        return _json({**head, "items": gone})

    def _object(
        self,
        request: web.Request,
        kind: Kind,
        obj: Object,
        code: int = 200,
        warnings: list[str] | None = None,
    ) -> web.Response:
        obj = self._registry.presented(kind, obj)
        shape = form(request.headers.get("Accept", ""))
        if shape is Form.TABLE:
            meta = {"resourceVersion": obj["metadata"].get("resourceVersion", "")}
            include = request.query.get("includeObject", "Metadata")
            obj = table(kind, [obj], meta, self._registry.clock(), include)
        elif shape is Form.METADATA:
            obj = partial(obj)
        response = _json(obj, code)
        for warning in warnings or ():
            response.headers.add("Warning", "299 - " + json.dumps(warning))
        return response

    # -- subresources of their own -------------------------------------------------------------

    async def _token(self, request: web.Request, target: Target) -> web.Response:
        if request.method != "POST":
            raise errors.method_not_allowed()
        kind = self._registry.kinds.find("", "v1", "serviceaccounts")
        assert kind is not None
        account = self._registry.get(kind, target.namespace, target.name)
        body = await _body(request, BODY_TYPES)
        return _json(issue_token(account, body, self._tokens, self._registry.clock()), 201)

    async def _log(self, request: web.Request, target: Target) -> web.StreamResponse:
        if request.method != "GET":
            raise errors.method_not_allowed()
        kind = self._registry.kinds.find("", "v1", "pods")
        assert kind is not None
        pod = self._registry.get(kind, target.namespace, target.name)
        groups = (pod["spec"]["containers"], pod["spec"].get("initContainers") or ())
        names = [c["name"] for group in groups for c in group]
        container = request.query.get("container") or names[0]
        if container not in names:
            raise errors.bad_request(f"container {container} is not valid for pod {target.name}")
        path = self._logs.log_file(pod, container) if self._logs is not None else None
        if path is None:
            raise errors.bad_request(
                f'container "{container}" in pod "{target.name}" is waiting to start: '
                "ContainerCreating"
            )
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        tail = request.query.get("tailLines", "")
        position = await self._send_log(response, path, int(tail) if tail.isdigit() else None)
        if request.query.get("follow") in ("true", "1"):
            while self._runs(kind, pod):
                await asyncio.sleep(_LOG_POLL_S)
                position = await self._send_log(response, path, None, position)
            await self._send_log(response, path, None, position)
        await response.write_eof()
        return response

    async def _send_log(
        self, response: web.StreamResponse, path: Path, tail: int | None, position: int = 0
    ) -> int:
        """Send what the file has after `position`, or its last `tail` lines; return its end."""
        data = await asyncio.to_thread(_read_from, path, position)
        if tail is not None:
            shown = b"".join(data.splitlines(keepends=True)[-tail:]) if tail else b""
        else:
            shown = data
        if shown:
            await response.write(shown)
        return position + len(data)

    def _runs(self, kind: Kind, pod: Object) -> bool:
        live = self._registry.store.get(kind.key, _address(pod))
        return live is not None and live["status"].get("phase") in ("Pending", "Running")


Handler = Callable[[Server, web.Request, Target, Kind], Awaitable[web.StreamResponse]]
_ONE: dict[str, Handler] = {
    "GET": Server._get,
    "PUT": Server._replace,
    "PATCH": Server._patch,
    "DELETE": Server._delete,
}
_COLLECTION: dict[str, Handler] = {
    "GET": Server._list,
    "POST": Server._create,
    "DELETE": Server._delete_all,
}


async def _ok(_: web.Request) -> web.Response:
    return web.Response(text="ok")


async def _version(_: web.Request) -> web.Response:
    return _json(discovery.VERSION)


async def _body(request: web.Request, accepted: tuple[str, ...]) -> Any:
    media = request.content_type if "Content-Type" in request.headers else ""
    return parse_body(await request.read(), media, accepted)


def _found(document: Object | None) -> Object:
    if document is None:
        raise errors.no_such_path()
    return document


def _json(document: Any, code: int = 200) -> web.Response:
    data = json.dumps(document, separators=(",", ":")).encode()
    return web.Response(body=data, status=code, content_type="application/json")


def _read_from(path: Path, position: int) -> bytes:
    with path.open("rb") as file:
        file.seek(position)
        return file.read()


def _address(obj: Object) -> tuple[str, str]:
    return (obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
