"""Server-side apply and strategic merge: whose field is it, and what does a list become?"""

from __future__ import annotations

from typing import Any

from .kube import STRATEGIC_PATCH, Kube, config_map, config_maps, widget, widgets


def _managers(obj: dict[str, Any]) -> set[tuple[str, str]]:
    return {(m["manager"], m["operation"]) for m in obj["metadata"]["managedFields"]}


def test_apply_creates_and_then_changes_nothing(kube: Kube, namespace: str) -> None:
    path, body = widgets(namespace, "a"), widget("a", note="abc")
    first = kube.apply(path, body, "one")
    assert first.code == 201
    assert _managers(first.body) == {("one", "Apply")}
    again = kube.apply(path, body, "one")
    assert again.code == 200
    assert again.body["metadata"]["resourceVersion"] == first.body["metadata"]["resourceVersion"]


def test_a_field_that_its_owner_stops_sending_goes(kube: Kube, namespace: str) -> None:
    path = widgets(namespace, "a")
    limits = {"x": 1, "y": 2}
    kube.apply(path, widget("a", note="abc", limits=limits, tags=["t", "u"]), "one")
    found = kube.apply(path, widget("a", limits={"x": 1}, tags=["u"]), "one").body
    assert found["spec"] == {"size": 1, "color": "red", "limits": {"x": 1}, "tags": ["u"]}
    found = kube.apply(path, widget("a"), "one").body
    assert found["spec"] == {"size": 1, "color": "red"}


def test_a_default_of_the_schema_stays_when_its_owner_leaves(kube: Kube, namespace: str) -> None:
    path = widgets(namespace, "a")
    kube.apply(path, widget("a", color="blue"), "one")
    assert kube.apply(path, widget("a"), "one").body["spec"]["color"] == "red"


def test_two_owners_of_different_fields_keep_out_of_each_others_way(
    kube: Kube, namespace: str
) -> None:
    path = widgets(namespace, "a")
    kube.apply(path, widget("a", note="abc"), "one")
    other = widget("a", limits={"x": 1})
    del other["spec"]["size"]
    found = kube.apply(path, other, "two").body
    assert (found["spec"]["note"], found["spec"]["limits"]) == ("abc", {"x": 1})
    found = kube.apply(path, widget("a"), "one").body
    assert found["spec"] == {"size": 1, "color": "red", "limits": {"x": 1}}


def test_a_field_of_another_owner_conflicts_unless_forced(kube: Kube, namespace: str) -> None:
    path = widgets(namespace, "a")
    kube.apply(path, widget("a", note="abc"), "one")
    reply = kube.apply(path, widget("a", note="xyz"), "two")
    assert (reply.code, reply.body["reason"]) == (409, "Conflict")
    assert 'conflict with "one"' in reply.message
    assert ".spec.note" in reply.message
    assert kube.get(path)["spec"]["note"] == "abc"
    forced = kube.apply(path, widget("a", note="xyz"), "two", force="true").body
    assert forced["spec"]["note"] == "xyz"
    found = kube.apply(path, widget("a"), "one").body
    assert found["spec"]["note"] == "xyz"


def test_the_same_value_is_owned_together(kube: Kube, namespace: str) -> None:
    path = widgets(namespace, "a")
    kube.apply(path, widget("a", note="abc"), "one")
    assert kube.apply(path, widget("a", note="abc"), "two").code == 200
    assert kube.apply(path, widget("a"), "one").body["spec"]["note"] == "abc"
    assert "note" not in kube.apply(path, widget("a"), "two").body["spec"]


def test_an_update_takes_fields_over(kube: Kube, namespace: str) -> None:
    path = widgets(namespace, "a")
    kube.apply(path, widget("a", note="abc"), "one")
    found = kube.merge(path, {"spec": {"note": "xyz"}}, fieldManager="editor")
    assert ("editor", "Update") in _managers(found)
    reply = kube.apply(path, widget("a", note="abc"), "one")
    assert reply.code == 409
    assert 'conflict with "editor"' in reply.message


def test_map_lists_merge_by_key(kube: Kube, namespace: str) -> None:
    path = widgets(namespace, "a")
    kube.apply(path, widget("a", parts=[{"name": "p", "count": 2}]), "one")
    kube.apply(path, widget("a", parts=[{"name": "q", "serial": "7"}]), "two")
    found = kube.apply(path, widget("a", parts=[{"name": "p", "count": 3}]), "one").body
    assert found["spec"]["parts"] == [
        {"name": "p", "count": 3},
        {"name": "q", "serial": "7", "count": 1},
    ]
    found = kube.apply(path, widget("a"), "two").body
    assert [p["name"] for p in found["spec"]["parts"]] == ["p"]


def test_atomic_lists_are_replaced_and_sets_are_joined(kube: Kube, namespace: str) -> None:
    path = widgets(namespace, "a")
    kube.apply(path, widget("a", steps=[1, 2], tags=["a"]), "one")
    found = kube.apply(path, widget("a", steps=[3], tags=["b"]), "two", force="true").body
    assert (found["spec"]["steps"], found["spec"]["tags"]) == ([3], ["a", "b"])


def test_status_is_applied_through_its_subresource(kube: Kube, namespace: str) -> None:
    path = widgets(namespace, "a")
    found = kube.apply(path, widget("a") | {"status": {"seen": 1}}, "one").body
    assert "status" not in found
    ready = {"type": "Ready", "status": "True"}
    status = widget("a") | {"status": {"conditions": [ready]}}
    del status["spec"]
    found = kube.apply(f"{path}/status", status, "controller").body
    assert found["status"]["conditions"] == [ready]
    other = {"type": "Seen", "status": "False"}
    status["status"] = {"conditions": [other]}
    found = kube.apply(f"{path}/status", status, "watcher").body
    assert found["status"]["conditions"] == [ready, other]
    assert found["metadata"]["generation"] == 1


def test_apply_works_on_built_in_kinds(kube: Kube, namespace: str) -> None:
    path = config_maps(namespace, "c")
    assert kube.apply(path, config_map("c", a="1", b="2"), "one").code == 201
    assert kube.apply(path, config_map("c", a="1"), "one").body["data"] == {"a": "1"}
    assert kube.apply(path, config_map("c", a="2"), "two").code == 409


def test_apply_needs_a_manager(kube: Kube, namespace: str) -> None:
    reply = kube.request(
        "PATCH",
        widgets(namespace, "a"),
        widget("a"),
        content_type="application/apply-patch+yaml",
    )
    assert reply.code in (400, 422)
    assert "fieldManager" in reply.message


def test_apply_in_a_dry_run_stores_nothing(kube: Kube, namespace: str) -> None:
    path = widgets(namespace, "a")
    assert kube.apply(path, widget("a"), "one", dryRun="All").code == 201
    assert kube.is_gone(path)


def test_apply_refuses_what_the_schema_does_not_declare(kube: Kube, namespace: str) -> None:
    reply = kube.apply(widgets(namespace, "a"), widget("a", bogus=1), "one")
    assert reply.code >= 400
    assert ".spec.bogus: field not declared in schema" in reply.message


def test_a_strategic_merge_is_for_built_in_kinds_only(kube: Kube, namespace: str) -> None:
    kube.create(widgets(namespace), widget("a"))
    kube.create(config_maps(namespace), config_map("c", a="1", b="2"))
    patch: dict[str, Any] = {"data": {"a": None, "c": "3"}}
    path = config_maps(namespace, "c")
    found = kube.request("PATCH", path, patch, content_type=STRATEGIC_PATCH)
    assert found.body["data"] == {"b": "2", "c": "3"}
    path = widgets(namespace, "a")
    assert kube.request("PATCH", path, {}, content_type=STRATEGIC_PATCH).code == 415


def test_a_strategic_merge_joins_lists_by_their_key(kube: Kube, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    names = [{"name": "a"}, {"name": "b"}]
    body = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "s"}}
    kube.create(path, {**body, "secrets": names, "imagePullSecrets": names})
    change = [{"name": "c"}, {"name": "a", "$patch": "delete"}]
    patch = {"secrets": change, "imagePullSecrets": [{"name": "c"}]}
    found = kube.request("PATCH", f"{path}/s", patch, content_type=STRATEGIC_PATCH).body
    assert {s["name"] for s in found["secrets"]} >= {"b", "c"}
    assert "a" not in {s["name"] for s in found["secrets"]}
    assert found["imagePullSecrets"] == [{"name": "c"}]
