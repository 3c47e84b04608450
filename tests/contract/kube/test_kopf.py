"""A kopf operator works: handlers, status, events, finalizers, and it goes on where it left off."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .kube import Kube, eventually, widget, widgets

FINALIZER = "contract.tinymlaas.dev/operator"


@contextmanager
def _operator(kube: Kube, namespace: str) -> Iterator[Path]:
    """Run the operator while the block lasts; its output is in the file."""
    script = Path(__file__).with_name("operator_under_test.py")
    log = kube.folder / f"kopf-{namespace}.log"
    argv = [sys.executable, "-m", "kopf", "run", "--standalone", "-n", namespace, str(script)]
    env = {**os.environ, "KUBECONFIG": str(kube.kubeconfig)}
    with log.open("ab") as out:
        process = subprocess.Popen(argv, env=env, stdout=out, stderr=out)
    try:
        yield log
    finally:
        process.terminate()
        process.wait(30)


def _reasons(kube: Kube, namespace: str) -> set[str]:
    return {e["reason"] for e in kube.get(f"/api/v1/namespaces/{namespace}/events")["items"]}


def test_an_operator_sees_creation_update_and_deletion(kube: Kube, namespace: str) -> None:
    path = widgets(namespace, "a")
    kube.create(widgets(namespace), widget("a", size=3))
    with _operator(kube, namespace) as log:

        def seen(size: int) -> bool:
            return bool(kube.get(path).get("status", {}).get("seen") == size)

        eventually(lambda: seen(3), f"the creation is handled, see {log}")
        eventually(lambda: kube.get(path)["metadata"].get("finalizers") == [FINALIZER], "it holds")
        kube.merge(path, {"spec": {"size": 4}})
        eventually(lambda: seen(4), "the update is handled")
        kube.create(widgets(namespace), widget("b", size=5))
        other = widgets(namespace, "b")
        eventually(lambda: kube.get(other).get("status"), "an object that came later is handled")
        kube.delete(path)
        eventually(lambda: kube.is_gone(path), "the deletion is handled")
        eventually(lambda: {"Reconciled", "Released"} <= _reasons(kube, namespace), "events")
    kube.merge(other, {"spec": {"size": 6}})
    kube.delete(other)
    assert "deletionTimestamp" in kube.get(other)["metadata"]
    with _operator(kube, namespace) as log:
        eventually(lambda: kube.is_gone(other), f"a missed deletion is handled, see {log}")
