"""Objects come, change and go: CRUD, concurrency, status, selectors, pages, finalizers,
owners, namespaces.
"""

from __future__ import annotations

import re
from typing import Any

from .kube import (
    JSON_PATCH,
    MERGE_PATCH,
    Kube,
    config_map,
    config_maps,
    eventually,
    widget,
    widgets,
)


def test_a_created_object_has_the_metadata_of_the_system(kube: Kube, namespace: str) -> None:
    found = kube.create(widgets(namespace), widget("a"))
    meta = found["metadata"]
    assert re.fullmatch(r"[0-9a-f-]{36}", meta["uid"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", meta["creationTimestamp"])
    assert meta["generation"] == 1
    assert meta["resourceVersion"].isdigit()
    assert meta["namespace"] == namespace
    assert kube.get(widgets(namespace, "a")) == found


def test_a_generated_name_starts_with_its_prefix(kube: Kube, namespace: str) -> None:
    names = {kube.create(widgets(namespace), widget())["metadata"]["name"] for _ in range(3)}
    assert len(names) == 3
    assert all(re.fullmatch(r"w-[a-z0-9]{5}", name) for name in names)


def test_a_name_is_taken_once(kube: Kube, namespace: str) -> None:
    kube.create(widgets(namespace), widget("a"))
    again = kube.request("POST", widgets(namespace), widget("a"))
    assert (again.code, again.body["reason"]) == (409, "AlreadyExists")
    assert again.message == 'widgets.contract.tinymlaas.dev "a" already exists'


def test_what_is_not_there_is_a_404(kube: Kube, namespace: str) -> None:
    reply = kube.request("GET", widgets(namespace, "none"))
    assert (reply.code, reply.body["reason"]) == (404, "NotFound")
    assert reply.message == 'widgets.contract.tinymlaas.dev "none" not found'
    assert kube.request("POST", widgets("no-such-namespace"), widget("a")).code == 404
    assert kube.request("GET", "/apis/no.such.group/v1/things").code == 404


def test_names_must_be_dns_names(kube: Kube, namespace: str) -> None:
    reply = kube.request("POST", widgets(namespace), widget("Not_A_Name"))
    assert (reply.code, reply.body["reason"]) == (422, "Invalid")
    assert "metadata.name: Invalid value" in reply.message
    assert "lowercase RFC 1123 subdomain" in reply.message


def test_labels_must_be_label_values(kube: Kube, namespace: str) -> None:
    bad = widget("a")
    bad["metadata"]["labels"] = {"team": "not a value"}
    reply = kube.request("POST", widgets(namespace), bad)
    assert reply.code == 422
    assert "metadata.labels" in reply.message


def test_a_body_for_another_namespace_is_refused(kube: Kube, namespace: str) -> None:
    reply = kube.request("POST", widgets(namespace), widget("a", "elsewhere"))
    assert reply.code == 400
    assert "does not match the namespace" in reply.message


def test_replace_needs_the_latest_version(kube: Kube, namespace: str) -> None:
    first = kube.create(widgets(namespace), widget("a"))
    kube.merge(widgets(namespace, "a"), {"spec": {"size": 2}})
    first["spec"]["size"] = 3
    late = kube.request("PUT", widgets(namespace, "a"), first)
    assert (late.code, late.body["reason"]) == (409, "Conflict")
    assert "the object has been modified" in late.message
    del first["metadata"]["resourceVersion"]
    blind = kube.request("PUT", widgets(namespace, "a"), first)
    assert blind.code == 422
    assert "metadata.resourceVersion" in blind.message
    assert kube.get(widgets(namespace, "a"))["spec"]["size"] == 2


def test_a_merge_patch_with_an_old_version_conflicts(kube: Kube, namespace: str) -> None:
    first = kube.create(widgets(namespace), widget("a"))
    kube.merge(widgets(namespace, "a"), {"spec": {"size": 2}})
    version = first["metadata"]["resourceVersion"]
    patch = {"metadata": {"resourceVersion": version}, "spec": {"size": 3}}
    reply = kube.request("PATCH", widgets(namespace, "a"), patch, content_type=MERGE_PATCH)
    assert reply.code == 409


def test_a_status_with_an_old_version_conflicts(kube: Kube, namespace: str) -> None:
    path = widgets(namespace, "a")
    old = kube.create(widgets(namespace), widget("a"))["metadata"]["resourceVersion"]
    kube.merge(path, {"spec": {"size": 3}})
    body = {"metadata": {"resourceVersion": old}, "status": {"seen": 1}}
    late = kube.request("PATCH", f"{path}/status", body, content_type=MERGE_PATCH)
    assert (late.code, late.body["reason"]) == (409, "Conflict")
    kube.request("DELETE", path)
    kube.create(widgets(namespace), widget("a"))
    late = kube.request("PATCH", f"{path}/status", body, content_type=MERGE_PATCH)
    assert (late.code, late.body["reason"]) == (409, "Conflict")
    assert "status" not in kube.get(path)


def test_a_built_in_kind_can_be_replaced_blindly(kube: Kube, namespace: str) -> None:
    kube.create(config_maps(namespace), config_map("c", a="1"))
    reply = kube.request("PUT", config_maps(namespace, "c"), config_map("c", b="2"))
    assert (reply.code, reply.body["data"]) == (200, {"b": "2"})


def test_generation_counts_changes_of_the_spec_only(kube: Kube, namespace: str) -> None:
    path = widgets(namespace, "a")
    kube.create(widgets(namespace), widget("a"))
    assert kube.merge(path, {"metadata": {"labels": {"x": "1"}}})["metadata"]["generation"] == 1
    assert kube.merge(f"{path}/status", {"status": {"seen": 1}})["metadata"]["generation"] == 1
    assert kube.merge(path, {"spec": {"size": 2}})["metadata"]["generation"] == 2


def test_a_write_that_changes_nothing_keeps_the_version(kube: Kube, namespace: str) -> None:
    first = kube.create(widgets(namespace), widget("a"))
    same = kube.merge(widgets(namespace, "a"), {"spec": {"size": 1}})
    assert same["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


def test_status_is_written_through_its_subresource_alone(kube: Kube, namespace: str) -> None:
    path = widgets(namespace, "a")
    made = kube.create(widgets(namespace), widget("a") | {"status": {"seen": 5}})
    assert "status" not in made
    kube.merge(path, {"status": {"seen": 5}})
    assert "status" not in kube.get(path)
    both = {"status": {"seen": 6}, "spec": {"size": 9}, "metadata": {"labels": {"x": "1"}}}
    found = kube.merge(f"{path}/status", both)
    assert found["status"] == {"seen": 6}
    assert found["spec"]["size"] == 1
    found["spec"]["size"] = 2
    found["status"]["seen"] = 7
    replaced = kube.request("PUT", path, found).body
    assert (replaced["spec"]["size"], replaced["status"]["seen"]) == (2, 6)
    replaced["status"]["seen"] = 8
    replaced["spec"]["size"] = 3
    replaced = kube.request("PUT", f"{path}/status", replaced).body
    assert (replaced["spec"]["size"], replaced["status"]["seen"]) == (2, 8)
    assert kube.get(f"{path}/status") == replaced


def test_a_json_patch_with_a_failed_test_changes_nothing(kube: Kube, namespace: str) -> None:
    path = widgets(namespace, "a")
    made = kube.create(widgets(namespace), widget("a"))
    version = made["metadata"]["resourceVersion"]
    finalizer = {"op": "add", "path": "/metadata/finalizers", "value": ["x.example.com/y"]}
    stale = [{"op": "test", "path": "/metadata/resourceVersion", "value": "1"}, finalizer]
    reply = kube.request("PATCH", path, stale, content_type=JSON_PATCH)
    assert (reply.code, reply.body["reason"]) == (422, "Invalid")
    assert "finalizers" not in kube.get(path)["metadata"]
    fresh = [{"op": "test", "path": "/metadata/resourceVersion", "value": version}, finalizer]
    reply = kube.request("PATCH", path, fresh, content_type=JSON_PATCH)
    assert reply.body["metadata"]["finalizers"] == ["x.example.com/y"]
    gone = [{"op": "remove", "path": "/metadata/finalizers"}]
    assert (
        "finalizers"
        not in kube.request("PATCH", path, gone, content_type=JSON_PATCH).body["metadata"]
    )


def test_dry_run_changes_nothing(kube: Kube, namespace: str) -> None:
    made = kube.create(widgets(namespace), widget("a"), dryRun="All")
    assert made["spec"]["color"] == "red"
    assert kube.is_gone(widgets(namespace, "a"))
    kube.create(widgets(namespace), widget("a"))
    assert (
        kube.merge(widgets(namespace, "a"), {"spec": {"size": 2}}, dryRun="All")["spec"]["size"]
        == 2
    )
    assert kube.get(widgets(namespace, "a"))["spec"]["size"] == 1
    assert kube.request("DELETE", widgets(namespace, "a"), dryRun="All").code == 200
    assert not kube.is_gone(widgets(namespace, "a"))


def test_label_selectors_select(kube: Kube, namespace: str) -> None:
    for name, labels in {"a": {"team": "x"}, "b": {"team": "y", "old": "1"}, "c": {}}.items():
        body = widget(name)
        body["metadata"]["labels"] = labels
        kube.create(widgets(namespace), body)

    def names(selector: str) -> str:
        found = kube.get(widgets(namespace), labelSelector=selector)
        return "".join(o["metadata"]["name"] for o in found["items"])

    assert names("team=x") == "a"
    assert names("team!=x") == "bc"
    assert names("team in (x,y)") == "ab"
    assert names("team notin (x)") == "bc"
    assert names("team") == "ab"
    assert names("!team") == "c"
    assert names("team,old=1") == "b"
    assert kube.request("GET", widgets(namespace), labelSelector="a b c").code == 400


def test_field_selectors_select(kube: Kube, namespace: str) -> None:
    for name in "ab":
        kube.create(widgets(namespace), widget(name))
    found = kube.get(widgets(namespace), fieldSelector="metadata.name=b")
    assert [o["metadata"]["name"] for o in found["items"]] == ["b"]
    everywhere = widgets(namespace).replace(f"/namespaces/{namespace}", "")
    found = kube.get(everywhere, fieldSelector=f"metadata.namespace={namespace}")
    assert len(found["items"]) == 2
    reply = kube.request("GET", widgets(namespace), fieldSelector="spec.size=1")
    assert reply.code == 400
    assert "field label not supported: spec.size" in reply.message


def test_a_list_comes_in_pages(kube: Kube, namespace: str) -> None:
    for i in range(5):
        kube.create(widgets(namespace), widget(f"w{i}"))
    names: list[str] = []
    params: dict[str, Any] = {"limit": 2}
    pages = 0
    while True:
        page = kube.get(widgets(namespace), **params)
        names += [o["metadata"]["name"] for o in page["items"]]
        pages += 1
        token = page["metadata"].get("continue")
        if not token:
            break
        params["continue"] = token
    assert (pages, names) == (3, ["w0", "w1", "w2", "w3", "w4"])


def test_a_finalizer_holds_an_object(kube: Kube, namespace: str) -> None:
    path = widgets(namespace, "a")
    body = widget("a")
    body["metadata"]["finalizers"] = ["contract.tinymlaas.dev/hold"]
    kube.create(widgets(namespace), body)
    assert kube.delete(path).code == 200
    held = kube.get(path)
    assert "deletionTimestamp" in held["metadata"]
    more = {"metadata": {"finalizers": ["contract.tinymlaas.dev/hold", "x.example.com/more"]}}
    reply = kube.request("PATCH", path, more, content_type=MERGE_PATCH)
    assert reply.code == 422
    assert "no new finalizers can be added if the object is being deleted" in reply.message
    kube.merge(path, {"metadata": {"finalizers": None}})
    assert kube.is_gone(path)


def test_a_deletion_can_ask_for_a_uid(kube: Kube, namespace: str) -> None:
    kube.create(widgets(namespace), widget("a"))
    reply = kube.delete(widgets(namespace, "a"), preconditions={"uid": "another"})
    assert reply.code == 409
    assert "the UID in the precondition (another) does not match" in reply.message
    assert not kube.is_gone(widgets(namespace, "a"))


def test_a_collection_can_be_deleted_by_label(kube: Kube, namespace: str) -> None:
    for name, team in (("a", "x"), ("b", "x"), ("c", "y")):
        body = widget(name)
        body["metadata"]["labels"] = {"team": team}
        kube.create(widgets(namespace), body)
    assert kube.request("DELETE", widgets(namespace), labelSelector="team=x").code == 200
    left = kube.get(widgets(namespace))["items"]
    assert [o["metadata"]["name"] for o in left] == ["c"]


def _owned(name: str, owner: dict[str, Any], **more: Any) -> dict[str, Any]:
    body = config_map(name)
    reference = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        **more,
    }
    body["metadata"]["ownerReferences"] = [reference]
    return body


def test_what_an_owner_owns_goes_with_it(kube: Kube, namespace: str) -> None:
    owner = kube.create(config_maps(namespace), config_map("owner"))
    kube.create(config_maps(namespace), _owned("child", owner))
    kube.delete(config_maps(namespace, "owner"), propagationPolicy="Background")
    eventually(lambda: kube.is_gone(config_maps(namespace, "child")), "the child goes")


def test_a_custom_resource_owns_too(kube: Kube, namespace: str) -> None:
    owner = kube.create(widgets(namespace), widget("owner"))
    kube.create(config_maps(namespace), _owned("child", owner))
    kube.delete(widgets(namespace, "owner"))
    eventually(lambda: kube.is_gone(config_maps(namespace, "child")), "the child goes")


def test_an_orphaned_child_stays(kube: Kube, namespace: str) -> None:
    owner = kube.create(config_maps(namespace), config_map("owner"))
    kube.create(config_maps(namespace), _owned("child", owner))
    kube.delete(config_maps(namespace, "owner"), propagationPolicy="Orphan")
    eventually(lambda: kube.is_gone(config_maps(namespace, "owner")), "the owner goes")
    assert "ownerReferences" not in kube.get(config_maps(namespace, "child"))["metadata"]


def test_a_foreground_deletion_waits_for_what_blocks_it(kube: Kube, namespace: str) -> None:
    owner = kube.create(config_maps(namespace), config_map("owner"))
    child = _owned("child", owner, blockOwnerDeletion=True)
    child["metadata"]["finalizers"] = ["contract.tinymlaas.dev/hold"]
    kube.create(config_maps(namespace), child)
    kube.delete(config_maps(namespace, "owner"), propagationPolicy="Foreground")
    path = config_maps(namespace, "child")
    eventually(lambda: "deletionTimestamp" in kube.get(path)["metadata"], "the child is asked")
    assert kube.get(config_maps(namespace, "owner"))["metadata"]["finalizers"] == [
        "foregroundDeletion"
    ]
    kube.merge(path, {"metadata": {"finalizers": None}})
    eventually(lambda: kube.is_gone(config_maps(namespace, "owner")), "the owner goes")


def test_a_child_of_an_owner_that_never_was_goes(kube: Kube, namespace: str) -> None:
    ghost = config_map("ghost")
    ghost["metadata"]["uid"] = "00000000-0000-0000-0000-000000000000"
    kube.create(config_maps(namespace), _owned("child", ghost))
    eventually(lambda: kube.is_gone(config_maps(namespace, "child")), "the child goes")


def test_a_namespace_takes_its_objects_with_it(kube: Kube, namespace: str) -> None:
    kube.create(widgets(namespace), widget("a"))
    kube.create(config_maps(namespace), config_map("c"))
    kube.delete(f"/api/v1/namespaces/{namespace}")
    eventually(lambda: kube.is_gone(f"/api/v1/namespaces/{namespace}"), "the namespace goes")
    assert kube.is_gone(widgets(namespace, "a"))


def test_a_namespace_waits_for_finalizers(kube: Kube, namespace: str) -> None:
    body = widget("a")
    body["metadata"]["finalizers"] = ["contract.tinymlaas.dev/hold"]
    kube.create(widgets(namespace), body)
    kube.delete(f"/api/v1/namespaces/{namespace}")
    path = widgets(namespace, "a")
    eventually(lambda: "deletionTimestamp" in kube.get(path)["metadata"], "the widget is asked")
    found = kube.get(f"/api/v1/namespaces/{namespace}")
    assert found["status"]["phase"] == "Terminating"
    reply = kube.request("POST", widgets(namespace), widget("b"))
    assert (reply.code, reply.body["reason"]) == (403, "Forbidden")
    kube.merge(path, {"metadata": {"finalizers": None}})
    eventually(lambda: kube.is_gone(f"/api/v1/namespaces/{namespace}"), "the namespace goes")


def test_a_secret_keeps_plain_strings_encoded(kube: Kube, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/secrets"
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s"},
        "stringData": {"k": "v"},
    }
    found = kube.create(path, body)
    assert (found["data"], found["type"]) == ({"k": "dg=="}, "Opaque")
    assert "stringData" not in found


def test_a_lease_is_an_ordinary_object(kube: Kube, namespace: str) -> None:
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
    meta = {"name": "l"}
    spec = {"holderIdentity": "me", "renewTime": "2026-11-22T10:00:00.000000Z"}
    body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": spec}
    made = kube.create(path, body)
    made["spec"]["renewTime"] = "2026-11-22T10:00:01.000000Z"
    assert kube.request("PUT", f"{path}/l", made).body["spec"] == made["spec"]


def test_events_are_found_by_what_they_are_about(kube: Kube, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/events"
    for name in ("a", "b"):
        about = {"kind": "Widget", "name": name, "namespace": namespace, "uid": f"uid-{name}"}
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": "e-"},
            "involvedObject": about,
            "reason": "Tested",
            "type": "Normal",
            "message": "a message",
        }
        kube.create(path, body)
    selector = "involvedObject.name=a,involvedObject.kind=Widget,involvedObject.uid=uid-a"
    found = kube.get(path, fieldSelector=selector)["items"]
    assert [e["involvedObject"]["name"] for e in found] == ["a"]


def test_a_job_gets_its_defaults_and_keeps_its_template(kube: Kube, namespace: str) -> None:
    path = f"/apis/batch/v1/namespaces/{namespace}/jobs"
    body = job("j")
    made = kube.create(path, body)
    assert (made["spec"]["backoffLimit"], made["spec"]["completions"]) == (6, 1)
    assert made["spec"]["template"]["metadata"]["labels"]["job-name"] == "j"
    container = {"name": "main", "image": "other"}
    patch = {"spec": {"template": {"spec": {"containers": [container]}}}}
    reply = kube.request("PATCH", f"{path}/j", patch, content_type=MERGE_PATCH)
    assert reply.code == 422
    assert "field is immutable" in reply.message
    body = job("k")
    body["spec"]["template"]["spec"]["restartPolicy"] = "Always"
    reply = kube.request("POST", path, body)
    assert reply.code == 422
    assert 'restartPolicy: Required value: valid values: "OnFailure", "Never"' in reply.message


def job(name: str) -> dict[str, Any]:
    """Return a Job that does nothing."""
    container = {"name": "main", "image": "none", "command": ["true"]}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    meta = {"name": name}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": meta,
        "spec": {"template": template},
    }
