"""kubectl does what people do with it: get, describe, apply, edit, patch, wait, delete, explain."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from .kube import Kube, eventually, widget, widgets
from .test_objects import job

pytestmark = pytest.mark.needs_kubectl


def _manifest(name: str, **spec: object) -> str:
    return yaml.safe_dump(widget(name, **spec))


def _cells(line: str) -> list[str]:
    return line.split()


def test_get_shows_the_columns_of_the_crd(kube: Kube, namespace: str) -> None:
    kube.create(widgets(namespace), widget("a", size=3, note="hello"))
    ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    kube.merge(widgets(namespace, "a", "status"), ready)
    lines = kube.kubectl("-n", namespace, "get", "wdg").splitlines()
    assert _cells(lines[0]) == ["NAME", "SIZE", "READY", "AGE"]
    assert _cells(lines[1])[:3] == ["a", "3", "True"]
    wide = kube.kubectl("-n", namespace, "get", "widget", "a", "-o", "wide").splitlines()
    assert _cells(wide[0])[-1] == "NOTE"
    assert _cells(wide[1])[-1] == "hello"
    both = kube.kubectl("get", "widgets", "-A").splitlines()
    assert _cells(both[0])[0] == "NAMESPACE"
    assert "a" in kube.kubectl("-n", namespace, "get", "contract-toys")


def test_get_prints_objects_and_parts_of_them(kube: Kube, namespace: str) -> None:
    kube.create(widgets(namespace), widget("a", size=3))
    found = kube.kubectl("-n", namespace, "get", "widget", "a", "-o", "json")
    assert json.loads(found) == kube.get(widgets(namespace, "a")) | {
        "metadata": json.loads(found)["metadata"]
    }
    part = kube.kubectl("-n", namespace, "get", "widgets", "-o", "jsonpath={.items[*].spec.size}")
    assert part == "3"
    text = kube.kubectl("-n", namespace, "get", "widget", "none", code=1)
    assert '"none" not found' in text


def test_get_of_built_in_kinds_has_their_columns(kube: Kube, namespace: str) -> None:
    kube.create(f"/apis/batch/v1/namespaces/{namespace}/jobs", job("j"))
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}
    kube.create(f"/api/v1/namespaces/{namespace}/secrets", {**secret, "stringData": {"k": "v"}})
    lines = kube.kubectl("-n", namespace, "get", "jobs").splitlines()
    assert {"NAME", "COMPLETIONS", "DURATION", "AGE"} <= set(_cells(lines[0]))
    assert "0/1" in lines[1]
    found = kube.kubectl("-n", namespace, "get", "secret", "s").splitlines()
    assert _cells(found[0]) == ["NAME", "TYPE", "DATA", "AGE"]
    assert _cells(found[1])[:3] == ["s", "Opaque", "1"]
    assert _cells(kube.kubectl("get", "namespace", namespace).splitlines()[1])[1] == "Active"
    text = kube.kubectl("get", "crd", "widgets.contract.tinymlaas.dev")
    assert "CREATED AT" in text


def test_apply_creates_changes_and_removes_fields(kube: Kube, namespace: str) -> None:
    where = ("-n", namespace, "apply", "-f", "-")
    first = _manifest("a", note="abc", limits={"low": 1}, parts=[{"name": "p", "count": 2}])
    assert "widget.contract.tinymlaas.dev/a created" in kube.kubectl(*where, stdin=first)
    assert "unchanged" in kube.kubectl(*where, stdin=first)
    second = _manifest("a", limits={"high": 2}, parts=[{"name": "q"}])
    assert "configured" in kube.kubectl(*where, stdin=second)
    found = kube.get(widgets(namespace, "a"))["spec"]
    assert found == {
        "size": 1,
        "color": "red",
        "limits": {"high": 2},
        "parts": [{"name": "q", "count": 1}],
    }


def test_apply_refuses_with_the_schemas_words(kube: Kube, namespace: str) -> None:
    where = ("-n", namespace, "apply", "-f", "-")
    text = kube.kubectl(*where, stdin=_manifest("a", size=99), code=1)
    assert "spec.size: Invalid value: 99: spec.size in body should be less than" in text
    text = kube.kubectl(*where, stdin=_manifest("a", bogus=1), code=1)
    assert 'unknown field "spec.bogus"' in text


def test_apply_of_built_in_kinds_merges_their_lists(kube: Kube, namespace: str) -> None:
    where = ("-n", namespace, "apply", "-f", "-")
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "s"}}
    names = [{"name": "a"}, {"name": "b"}]
    kube.kubectl(*where, stdin=yaml.safe_dump({**account, "secrets": names}))
    kube.kubectl(*where, stdin=yaml.safe_dump({**account, "secrets": names[1:]}))
    found = kube.get(f"/api/v1/namespaces/{namespace}/serviceaccounts/s")
    listed = {s["name"] for s in found["secrets"]}
    assert "b" in listed
    assert "a" not in listed
    kube.kubectl(*where, stdin=yaml.safe_dump(job("j")))
    assert "unchanged" in kube.kubectl(*where, stdin=yaml.safe_dump(job("j")))


def test_server_side_apply_owns_its_fields(kube: Kube, namespace: str) -> None:
    where = ("-n", namespace, "apply", "--server-side", "-f", "-")
    first = _manifest("a", note="abc")
    assert "serverside-applied" in kube.kubectl(*where, stdin=first)
    other = ("--field-manager", "other")
    text = kube.kubectl(*where, *other, stdin=_manifest("a", note="xyz"), code=1)
    assert 'conflict with "kubectl": .spec.note' in text
    kube.kubectl(*where, *other, "--force-conflicts", stdin=_manifest("a", note="xyz"))
    assert kube.get(widgets(namespace, "a"))["spec"]["note"] == "xyz"


def test_diff_shows_what_apply_would_do(kube: Kube, namespace: str) -> None:
    where = ("-n", namespace, "-f", "-")
    kube.kubectl("apply", *where, stdin=_manifest("a"))
    text = kube.kubectl("diff", *where, stdin=_manifest("a", size=2), code=1)
    assert "-  size: 1" in text
    assert "+  size: 2" in text
    assert kube.get(widgets(namespace, "a"))["spec"]["size"] == 1


def test_create_replace_patch_label_and_annotate(kube: Kube, namespace: str) -> None:
    n = ("-n", namespace)
    kube.kubectl(*n, "create", "-f", "-", stdin=_manifest("a"))
    text = kube.kubectl(*n, "create", "-f", "-", stdin=_manifest("a"), code=1)
    assert "already exists" in text
    live = kube.get(widgets(namespace, "a"))
    live["spec"]["size"] = 2
    assert "replaced" in kube.kubectl(*n, "replace", "-f", "-", stdin=yaml.safe_dump(live))
    kube.kubectl(*n, "patch", "wdg", "a", "--type=merge", "-p", '{"spec":{"size":3}}')
    assert kube.get(widgets(namespace, "a"))["spec"]["size"] == 3
    operation = '[{"op":"replace","path":"/spec/size","value":4}]'
    kube.kubectl(*n, "patch", "wdg", "a", "--type=json", "-p", operation)
    kube.kubectl(*n, "label", "wdg", "a", "team=x")
    kube.kubectl(*n, "annotate", "wdg", "a", "note=y")
    found = kube.get(widgets(namespace, "a"))
    assert found["spec"]["size"] == 4
    assert found["metadata"]["labels"] == {"team": "x"}
    assert found["metadata"]["annotations"]["note"] == "y"
    assert "a" in kube.kubectl(*n, "get", "wdg", "-l", "team=x")
    assert "No resources found" in kube.kubectl(*n, "get", "wdg", "-l", "team=y")


def test_create_makes_simple_objects_without_a_manifest(kube: Kube, namespace: str) -> None:
    n = ("-n", namespace)
    kube.kubectl(*n, "create", "configmap", "c", "--from-literal=k=v", "--from-literal=l=w")
    kube.kubectl(*n, "create", "secret", "generic", "s", "--from-literal=k=v")
    kube.kubectl(*n, "create", "serviceaccount", "agent")
    found = kube.get(f"/api/v1/namespaces/{namespace}/configmaps/c")
    assert found["data"] == {"k": "v", "l": "w"}
    assert kube.get(f"/api/v1/namespaces/{namespace}/secrets/s")["data"] == {"k": "dg=="}
    token = kube.kubectl(*n, "create", "token", "agent", "--duration=10m").strip()
    assert kube.request("GET", "/api/v1/namespaces", token=token).code in (200, 403)
    assert "yes" in kube.kubectl("auth", "can-i", "create", "pods", *n)
    other = f"{namespace}-b"
    assert "created" in kube.kubectl("create", "namespace", other)
    kube.kubectl("delete", "namespace", other, "--wait=false")


def test_patch_of_the_status(kube: Kube, namespace: str) -> None:
    kube.create(widgets(namespace), widget("a"))
    change = ("--subresource=status", "--type=merge", "-p", '{"status":{"seen":1}}')
    kube.kubectl("-n", namespace, "patch", "wdg", "a", *change)
    assert kube.get(widgets(namespace, "a"))["status"] == {"seen": 1}


def test_edit_stores_what_the_editor_leaves(kube: Kube, namespace: str) -> None:
    kube.create(widgets(namespace), widget("a"))
    editor = "sed -i s/size:.1/size:\\ 7/"
    assert "edited" in kube.kubectl("-n", namespace, "edit", "wdg", "a", editor=editor)
    assert kube.get(widgets(namespace, "a"))["spec"]["size"] == 7


def test_describe_shows_spec_status_and_events(kube: Kube, namespace: str) -> None:
    made = kube.create(widgets(namespace), widget("a", size=3))
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": "a."},
        "involvedObject": {
            "apiVersion": made["apiVersion"],
            "kind": "Widget",
            "name": "a",
            "namespace": namespace,
            "uid": made["metadata"]["uid"],
        },
        "type": "Warning",
        "reason": "TooLarge",
        "message": "3 is too large",
        "source": {"component": "suite"},
        "firstTimestamp": "2026-11-22T10:00:00Z",
        "lastTimestamp": "2026-11-22T10:00:00Z",
        "count": 1,
    }
    kube.create(f"/api/v1/namespaces/{namespace}/events", event)
    text = kube.kubectl("-n", namespace, "describe", "widget", "a")
    assert "Size:   3" in text
    assert "TooLarge" in text
    assert "3 is too large" in text
    listed = kube.kubectl("-n", namespace, "get", "events").splitlines()
    assert _cells(listed[0])[:2] == ["LAST", "SEEN"]
    assert "widget/a" in listed[1]


def test_describe_job_and_namespace(kube: Kube, namespace: str) -> None:
    kube.create(f"/apis/batch/v1/namespaces/{namespace}/jobs", job("j"))
    text = kube.kubectl("-n", namespace, "describe", "job", "j")
    assert "Completions:" in text
    assert "Status:       Active" in kube.kubectl("describe", "namespace", namespace)


def test_wait_ends_when_the_condition_is_met(kube: Kube, namespace: str) -> None:
    kube.create(widgets(namespace), widget("a"))
    command = ["kubectl", "-n", namespace, "wait", "wdg/a", "--for=condition=Ready"]
    env = {**os.environ, "KUBECONFIG": str(kube.kubeconfig), "HOME": str(kube.folder)}
    with subprocess.Popen(
        [*command, "--timeout=40s"], env=env, stdout=subprocess.PIPE, text=True
    ) as waiting:
        time.sleep(1.0)
        ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
        kube.merge(widgets(namespace, "a", "status"), ready)
        out, _ = waiting.communicate(timeout=50)
    assert (waiting.returncode, "condition met" in out) == (0, True)
    path = "--for=jsonpath={.spec.size}=1"
    assert "condition met" in kube.kubectl("-n", namespace, "wait", "wdg/a", path)
    text = kube.kubectl(
        "-n", namespace, "wait", "wdg/a", "--for=condition=Never", "--timeout=1s", code=1
    )
    assert "timed out waiting for the condition" in text


def test_get_can_watch(kube: Kube, namespace: str) -> None:
    kube.create(widgets(namespace), widget("a"))
    command = ["kubectl", "-n", namespace, "get", "wdg", "-w", "--request-timeout=8s"]
    env = {**os.environ, "KUBECONFIG": str(kube.kubeconfig), "HOME": str(kube.folder)}
    log = kube.folder / f"watch-{namespace}.txt"
    with log.open("wb") as out, subprocess.Popen(command, env=env, stdout=out) as watching:
        eventually(lambda: "a " in log.read_text(), "the list is shown")
        kube.merge(widgets(namespace, "a"), {"spec": {"size": 9}})
        eventually(lambda: "9" in log.read_text(), "the change is shown", 8)
        watching.terminate()


def test_delete_waits_until_it_is_gone(kube: Kube, namespace: str) -> None:
    kube.create(widgets(namespace), widget("a"))
    kube.create(widgets(namespace), widget("b"))
    assert '"a" deleted' in kube.kubectl("-n", namespace, "delete", "wdg", "a")
    assert kube.is_gone(widgets(namespace, "a"))
    kube.kubectl("-n", namespace, "delete", "wdg", "--all")
    assert kube.is_gone(widgets(namespace, "b"))
    assert "not found" in kube.kubectl("-n", namespace, "delete", "wdg", "a", code=1)
    kube.kubectl("-n", namespace, "delete", "wdg", "a", "--ignore-not-found")


def test_explain_knows_the_fields(kube: Kube) -> None:
    text = kube.kubectl("explain", "widget.spec")
    assert "How large it is." in text
    assert "color" in text
    assert "restartPolicy" in kube.kubectl("explain", "job.spec.template.spec")


def test_kinds_are_listed_with_their_short_names(kube: Kube) -> None:
    lines = kube.kubectl("api-resources", "--api-group=contract.tinymlaas.dev").splitlines()
    found = [_cells(line)[:4] for line in lines]
    assert ["widgets", "wdg", "contract.tinymlaas.dev/v1", "true"] in found
    assert "batch/v1" in kube.kubectl("api-versions")


def test_several_documents_apply_at_once(kube: Kube, namespace: str, tmp_path: Path) -> None:
    head = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}
    text = yaml.safe_dump_all([widget("a"), {**head, "data": {"k": "v"}}])
    (tmp_path / "all.yaml").write_text(text)
    kube.kubectl("-n", namespace, "apply", "-f", str(tmp_path))
    found = kube.kubectl("-n", namespace, "get", "wdg,configmap", "-o", "name").splitlines()
    assert {"widget.contract.tinymlaas.dev/a", "configmap/c"} <= set(found)
    kube.kubectl("-n", namespace, "delete", "-f", str(tmp_path))
    assert kube.is_gone(widgets(namespace, "a"))
