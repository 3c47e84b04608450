"""Questions that are posted and answered, never stored: token and access reviews, and token
requests.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from . import errors
from .errors import Object
from .identity import AUDIENCE, Tokens, User
from .kinds import Review
from .metadata import timestamp

SHORTEST_TOKEN_S = 600
LONGEST_TOKEN_S = 2**32


def answer_review(review: Review, body: Any, tokens: Tokens, user: User, now: datetime) -> Object:
    """Return `body` with its answer in `status`. Raises ApiError 400."""
    if not isinstance(body, dict) or not isinstance(body.get("spec", {}), dict):
        raise errors.bad_request(f"the body of the request is no {review.kind}")
    head = {"apiVersion": f"{review.group}/{review.version}", "kind": review.kind}
    spec = body.get("spec", {})
    if review.kind == "TokenReview":
        status = _token_status(spec, tokens, now)
    elif review.kind == "SelfSubjectReview":
        status = {"userInfo": user.to_dict()}
    elif review.kind == "SelfSubjectRulesReview":
        everything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
        paths = [{"verbs": ["*"], "nonResourceURLs": ["*"]}]
        status = {
            "incomplete": False,
            "resourceRules": [everything],
            "nonResourceRules": paths,
        }
    else:
        status = {"allowed": True, "reason": f"the local API enforces no RBAC ({user.name})"}
    return {"metadata": {}, **body, **head, "spec": spec, "status": status}


def issue_token(account: Object, body: Any, tokens: Tokens, now: datetime) -> Object:
    """Return the TokenRequest `body` with a token of `account`. Raises ApiError 400, 422."""
    if body is not None and not isinstance(body, dict):
        raise errors.bad_request("the body of the request is no TokenRequest")
    spec = dict((body or {}).get("spec") or {})
    audiences = list(spec.get("audiences") or [AUDIENCE])
    seconds = spec.get("expirationSeconds", 3600)
    name = account["metadata"]["name"]
    if not isinstance(seconds, int) or not SHORTEST_TOKEN_S <= seconds <= LONGEST_TOKEN_S:
        why = (
            f"may not specify a duration less than {SHORTEST_TOKEN_S // 60} minutes"
            " or more than 2^32 seconds"
        )
        complaint = errors.invalid_value("spec.expirationSeconds", seconds, why)
        raise errors.invalid("TokenRequest", "authentication.k8s.io", name, [complaint])
    token, expires = tokens.issue(account, audiences, seconds, now)
    meta = {"name": name, "namespace": account["metadata"]["namespace"]}
    return {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "metadata": {**meta, "creationTimestamp": timestamp(now)},
        "spec": {**spec, "audiences": audiences, "expirationSeconds": seconds},
        "status": {"token": token, "expirationTimestamp": timestamp(expires)},
    }


def _token_status(spec: Object, tokens: Tokens, now: datetime) -> Object:
    user = tokens.user(str(spec.get("token", "")), now)
    if user is None:
        return {"user": {}, "error": "invalid bearer token, or token of a deleted account"}
    wanted = spec.get("audiences") or [AUDIENCE]
    common = [a for a in wanted if a in user.audiences]
    if not common:
        why = f"token audiences {list(user.audiences)} is invalid for the target audiences {wanted}"
        return {"user": {}, "error": why}
    return {"authenticated": True, "user": user.to_dict(), "audiences": common}
