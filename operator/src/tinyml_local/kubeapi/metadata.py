"""Is an object's metadata in order? Names, labels, annotations, finalizers; and what no writer may
change.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from .errors import FieldError, Object, forbidden_field, invalid_value, required
from .kinds import Kind

ANNOTATIONS_LIMIT_BYTES = 256 * 1024
KEPT = ("uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds")
"""What stays as it was, whatever a writer sends."""

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_VALUE = r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?"
_QUALIFIED = re.compile(rf"({_SUBDOMAIN}/)?([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"


def timestamp(now: datetime) -> str:
    """Return `now` as metadata writes it: RFC 3339, UTC, whole seconds, `Z`."""
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def generated_name(prefix: str) -> str:
    """Return `prefix`, cut to 58 characters, with five random ones."""
    return prefix[:58] + "".join(secrets.choice(_SUFFIX) for _ in range(5))


def check_metadata(kind: Kind, metadata: Object) -> list[FieldError]:
    """Return every complaint about `metadata`."""
    return [
        *_check_name(kind, metadata),
        *_check_labels(metadata.get("labels") or {}),
        *_check_annotations(metadata.get("annotations") or {}),
        *_check_finalizers(metadata.get("finalizers") or []),
        *_check_owners(metadata.get("ownerReferences") or []),
    ]


def check_new_finalizers(old: Object, new: Object) -> list[FieldError]:
    """Return a complaint if an object that is being deleted gets finalizers that it did not
    have.
    """
    if "deletionTimestamp" not in old:
        return []
    added = sorted(set(new.get("finalizers") or ()) - set(old.get("finalizers") or ()))
    if not added:
        return []
    names = ", ".join(f'"{a}"' for a in added)
    why = "no new finalizers can be added if the object is being deleted, found new finalizers"
    return [forbidden_field("metadata.finalizers", f"{why} []string{{{names}}}")]


def _check_name(kind: Kind, metadata: Object) -> Iterator[FieldError]:
    name = metadata.get("name", "")
    if not name:
        yield required("metadata.name", "name or generateName is required")
    elif kind.group == "rbac.authorization.k8s.io":
        if "/" in name or "%" in name or name in (".", ".."):
            yield invalid_value("metadata.name", name, "must be a path segment")
    elif kind.plural == "namespaces":
        if len(name) > 63 or re.fullmatch(_LABEL, name) is None:
            why = (
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or"
                " '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or"
                f" '123-abc', regex used for validation is '{_LABEL}')"
            )
            yield invalid_value("metadata.name", name, why)
    elif len(name) > 253:
        yield invalid_value("metadata.name", name, "must be no more than 253 characters")
    elif re.fullmatch(_SUBDOMAIN, name) is None:
        why = (
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters,"
            " '-' or '.', and must start and end with an alphanumeric character (e.g."
            f" 'example.com', regex used for validation is '{_SUBDOMAIN}')"
        )
        yield invalid_value("metadata.name", name, why)


def _check_labels(labels: dict[str, Any]) -> Iterator[FieldError]:
    for key, value in labels.items():
        if not _is_qualified(key):
            yield invalid_value("metadata.labels", key, _qualified_rule("name part"))
        if len(value) > 63 or re.fullmatch(_VALUE, value) is None:
            why = (
                "a valid label must be an empty string or consist of at most 63 alphanumeric"
                " characters, '-', '_' or '.', and must start and end with an alphanumeric"
                f" character (e.g. 'MyValue', regex used for validation is '{_VALUE}')"
            )
            yield invalid_value("metadata.labels", value, why)


def _check_annotations(annotations: dict[str, Any]) -> Iterator[FieldError]:
    for key in annotations:
        if not _is_qualified(key.lower()):
            yield invalid_value("metadata.annotations", key, _qualified_rule("name part"))
    size = sum(len(k.encode()) + len(v.encode()) for k, v in annotations.items())
    if size > ANNOTATIONS_LIMIT_BYTES:
        detail = f"Too long: may not be more than {ANNOTATIONS_LIMIT_BYTES} bytes"
        yield FieldError("FieldValueTooLong", "metadata.annotations", detail)


def _check_finalizers(finalizers: list[str]) -> Iterator[FieldError]:
    for i, name in enumerate(finalizers):
        if not _is_qualified(name):
            yield invalid_value(f"metadata.finalizers[{i}]", name, _qualified_rule("name"))


def _check_owners(owners: list[Object]) -> Iterator[FieldError]:
    controllers = [o.get("name", "") for o in owners if o.get("controller")]
    if len(controllers) > 1:
        why = 'Only one reference can have Controller set to true. Found "true" in references for'
        yield invalid_value("metadata.ownerReferences", controllers, f"{why} {controllers}")
    for i, owner in enumerate(owners):
        for field in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(field):
                why = f"{field} must not be empty"
                yield invalid_value(f"metadata.ownerReferences[{i}].{field}", "", why)


def _is_qualified(key: str) -> bool:
    prefix, slash, name = key.rpartition("/")
    return (
        _QUALIFIED.fullmatch(key) is not None
        and len(name) <= 63
        and (not slash or len(prefix) <= 253)
    )


def _qualified_rule(part: str) -> str:
    return (
        f"{part} must consist of at most 63 alphanumeric characters, '-', '_' or '.', and must"
        " start and end with an alphanumeric character, with an optional DNS subdomain prefix"
    )
