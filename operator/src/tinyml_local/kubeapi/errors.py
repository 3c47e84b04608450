"""What the local Kubernetes API answers when it refuses: `Status` objects worded as Kubernetes
words them.

`ApiError` is raised anywhere below the server and becomes the HTTP reply there. `FieldError` is
one complaint about one field; `invalid` makes a 422 of several.

    ApiError      any refusal: HTTP code, reason, message, details
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class FieldError:
    """One field that is wrong. `cause` is a Kubernetes cause type, `detail` the text after the
    field's path.
    """

    cause: str
    field: str
    detail: str

    def __str__(self) -> str:
        return f"{self.field or '<nil>'}: {self.detail}"


class ApiError(Exception):
    """A refusal with an HTTP code and a Kubernetes reason."""

    def __init__(self, code: int, reason: str, message: str, details: Object | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details

    def status(self) -> Object:
        """Return the `Status` object to send."""
        status: Object = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        }
        if self.details is not None:
            status["details"] = self.details
        return status


def qualified(resource: str, group: str) -> str:
    """Return `widgets.example.com`, or `pods` for the core group."""
    return f"{resource}.{group}" if group else resource


def not_found(group: str, plural: str, name: str) -> ApiError:
    return ApiError(
        404,
        "NotFound",
        f'{qualified(plural, group)} "{name}" not found',
        {"name": name, "group": group, "kind": plural},
    )


def no_such_path() -> ApiError:
    return ApiError(404, "NotFound", "the server could not find the requested resource", {})


def already_exists(group: str, plural: str, name: str) -> ApiError:
    return ApiError(
        409,
        "AlreadyExists",
        f'{qualified(plural, group)} "{name}" already exists',
        {"name": name, "group": group, "kind": plural},
    )


def conflict(group: str, plural: str, name: str, why: str) -> ApiError:
    return ApiError(
        409,
        "Conflict",
        f'Operation cannot be fulfilled on {qualified(plural, group)} "{name}": {why}',
        {"name": name, "group": group, "kind": plural},
    )


def modified(group: str, plural: str, name: str) -> ApiError:
    """The 409 of optimistic concurrency."""
    return conflict(
        group,
        plural,
        name,
        "the object has been modified; please apply your changes to the latest version"
        " and try again",
    )


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def forbidden(group: str, plural: str, name: str, why: str) -> ApiError:
    return ApiError(
        403,
        "Forbidden",
        f'{qualified(plural, group)} "{name}" is forbidden: {why}',
        {"name": name, "group": group, "kind": plural},
    )


def method_not_allowed() -> ApiError:
    return ApiError(
        405,
        "MethodNotAllowed",
        "the server does not allow this method on the requested resource",
        {},
    )


def unsupported_media_type(found: str, accepted: Sequence[str]) -> ApiError:
    return ApiError(
        415,
        "UnsupportedMediaType",
        f"the body of the request was in an unknown format ({found}) - accepted media types"
        f" include: {', '.join(accepted)}",
    )


def expired(requested: int, oldest: int) -> ApiError:
    return ApiError(410, "Expired", f"too old resource version: {requested} ({oldest})")


def invalid(kind: str, group: str, name: str, errors: Sequence[FieldError]) -> ApiError:
    """Return the 422 that lists every complaint."""
    texts = [str(e) for e in errors]
    joined = texts[0] if len(texts) == 1 else "[" + ", ".join(texts) + "]"
    return ApiError(
        422,
        "Invalid",
        f'{qualified(kind, group)} "{name}" is invalid: {joined}',
        {
            "name": name,
            "group": group,
            "kind": kind,
            "causes": [
                {"reason": e.cause, "message": e.detail, "field": e.field or "<nil>"}
                for e in errors
            ],
        },
    )


def shown(value: Any) -> str:
    """Return `value` as messages show it: JSON."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def invalid_value(field: str, value: Any, why: str) -> FieldError:
    return FieldError("FieldValueInvalid", field, f"Invalid value: {shown(value)}: {why}")


def wrong_type(field: str, found: str, expected: str) -> FieldError:
    return FieldError(
        "FieldValueTypeInvalid",
        field,
        f'Invalid value: "{found}": {field} in body must be of type {expected}: "{found}"',
    )


def required(field: str, why: str = "") -> FieldError:
    return FieldError("FieldValueRequired", field, "Required value" + (f": {why}" if why else ""))


def unsupported(field: str, value: Any, supported: Sequence[Any]) -> FieldError:
    choices = ", ".join(shown(v) for v in supported)
    return FieldError(
        "FieldValueNotSupported",
        field,
        f"Unsupported value: {shown(value)}: supported values: {choices}",
    )


def duplicate(field: str, value: Any) -> FieldError:
    return FieldError("FieldValueDuplicate", field, f"Duplicate value: {shown(value)}")


def forbidden_field(field: str, why: str) -> FieldError:
    return FieldError("FieldValueForbidden", field, f"Forbidden: {why}")
