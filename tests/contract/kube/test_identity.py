"""Who may ask: bearer tokens, tokens of ServiceAccounts, and what reviews say of them."""

from __future__ import annotations

from typing import Any

import pytest

from .kube import Kube, eventually

REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"
ACCESS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


def _account(kube: Kube, namespace: str, name: str) -> str:
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    body = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}
    kube.create(path, body)
    return f"{path}/{name}"


def _request(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}


def _review(kube: Kube, token: str) -> dict[str, Any]:
    head = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview"}
    status: dict[str, Any] = kube.create(REVIEWS, {**head, "spec": {"token": token}})["status"]
    return status


def test_a_wrong_token_is_a_401(kube: Kube) -> None:
    reply = kube.request("GET", "/api/v1/namespaces", token="wrong")
    assert (reply.code, reply.body["reason"]) == (401, "Unauthorized")


def test_without_a_token_nothing_is_served(kube: Kube) -> None:
    assert kube.request("GET", "/api/v1/namespaces", token="").code in (401, 403)


def test_a_token_of_a_service_account_is_known(kube: Kube, namespace: str) -> None:
    path = _account(kube, namespace, "agent")
    issued = kube.create(f"{path}/token", _request(expirationSeconds=600))["status"]
    assert issued["expirationTimestamp"].endswith("Z")
    found = _review(kube, issued["token"])
    assert found["authenticated"] is True
    assert found["user"]["username"] == f"system:serviceaccount:{namespace}:agent"
    assert f"system:serviceaccounts:{namespace}" in found["user"]["groups"]
    # Known, so it is no 401; whether it may list is RBAC's matter.
    code = kube.request("GET", "/api/v1/namespaces", token=issued["token"]).code
    assert code in (200, 403)


def test_a_token_dies_with_its_service_account(kube: Kube, namespace: str) -> None:
    path = _account(kube, namespace, "agent")
    token = kube.create(f"{path}/token", _request())["status"]["token"]
    kube.delete(path)
    eventually(lambda: not _review(kube, token).get("authenticated"), "the token is not known")


def test_a_made_up_token_is_nobodys(kube: Kube) -> None:
    found = _review(kube, "made.up.token")
    assert not found.get("authenticated")
    assert found["user"] == {}


def test_an_unknown_service_account_gets_no_token(kube: Kube, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/nobody/token"
    assert kube.request("POST", path, _request()).code == 404


def test_a_token_must_live_ten_minutes(kube: Kube, namespace: str) -> None:
    path = _account(kube, namespace, "agent")
    reply = kube.request("POST", f"{path}/token", _request(expirationSeconds=10))
    assert reply.code == 422
    assert "may not specify a duration less than 10 minutes" in reply.message


@pytest.mark.parametrize("verb", ["list", "patch"])
def test_the_administrator_may_do_everything(kube: Kube, verb: str) -> None:
    attributes = {"verb": verb, "group": "contract.tinymlaas.dev", "resource": "widgets"}
    head = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
    found = kube.create(ACCESS, {**head, "spec": {"resourceAttributes": attributes}})
    assert found["status"]["allowed"] is True


def test_every_namespace_has_a_default_service_account(kube: Kube, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/default"
    eventually(lambda: kube.request("GET", path).code == 200, "the default account is there")
