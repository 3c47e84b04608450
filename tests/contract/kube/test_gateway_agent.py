"""The gateway agent on an API server: our schemas take what it writes, watches and the Lease work,
and the rights that docs/gateway.md lists are enough. The devices are fake, behind ptys.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from tinyml_kube.cluster import Ref
from tinyml_kube.errors import ForbiddenError, NotFoundError
from tinyml_kube.real import KubernetesCluster
from tinyml_kube.resources import EDGE_GATEWAY, GATEWAY_DEPLOYMENT, LEASE

from tests.conftest import REPO
from tests.support.fake_device import FakeDevice
from tests.support.gateway_site import NAME, Site

from .conftest import _real as real_server
from .kube import Kube

ACCOUNT = f"tinyml-gateway-{NAME}"
PATIENCE_S = 30.0
RBAC = "/apis/rbac.authorization.k8s.io/v1/namespaces"

# docs/gateway.md, "Rights". `create` cannot be bound to a name.
RULES = [
    {
        "apiGroups": ["tinymlaas.dev"],
        "resources": ["edgegateways", "gatewaydeployments"],
        "resourceNames": [NAME],
        "verbs": ["get", "list", "watch"],
    },
    {
        "apiGroups": ["tinymlaas.dev"],
        "resources": ["gatewaydeployments/status"],
        "resourceNames": [NAME],
        "verbs": ["patch"],
    },
    {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]},
    {
        "apiGroups": ["coordination.k8s.io"],
        "resources": ["leases"],
        "resourceNames": [ACCOUNT],
        "verbs": ["get", "patch"],
    },
]


async def _site(cluster: KubernetesCluster, folder: Path) -> Site:
    """Return a site in a namespace of its own, its CRDs served."""
    logging.getLogger("smpclient").setLevel(logging.CRITICAL)
    namespace = f"agent-{uuid.uuid4().hex[:8]}"
    site = Site(folder / "site", cluster=cluster, namespace=namespace)
    for path in sorted((REPO / "crds").glob("*.yaml")):
        await cluster.apply(yaml.safe_load(path.read_text()), field_manager="tests")

    async def served() -> bool:
        try:
            return [await cluster.list(r) for r in (EDGE_GATEWAY, GATEWAY_DEPLOYMENT)] != []
        except NotFoundError:
            return False

    await site.until(served, timeout_s=PATIENCE_S)
    await cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    await cluster.create(
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"namespace": namespace, "name": ACCOUNT},
        }
    )
    return site


@pytest_asyncio.fixture
async def site(server: Kube, tmp_path: Path) -> AsyncIterator[Site]:
    async with KubernetesCluster(server.kubeconfig) as cluster:
        made = await _site(cluster, tmp_path)
        yield made
        await made.close()
        server.delete(f"/api/v1/namespaces/{made.namespace}")


async def test_devices_end_running_and_the_server_takes_every_status(site: Site) -> None:
    await site.add("a-001")
    await site.add("a-002", FakeDevice(device_class="stm32f405"))
    await site.add("a-003", FakeDevice(online=False))
    await site.want(site.pair("one"))
    site.start()
    await site.until_states("RFO", timeout_s=PATIENCE_S)
    assert await site.reasons() == {"a-002": "DeviceClassMismatch", "a-003": "DeviceOffline"}
    lease = await site.cluster.get(Ref(LEASE, site.namespace, ACCOUNT))
    assert lease["spec"]["holderIdentity"] == ACCOUNT


async def test_a_new_wish_and_a_wiped_status_are_noticed(site: Site) -> None:
    device = await site.add("a")
    await site.want(site.pair("one"))
    site.start()
    await site.until_states("R", timeout_s=PATIENCE_S)
    two = site.pair("two")
    await site.want(two)
    wanted = (two["code"]["imageHash"], two["weights"]["imageHash"])
    await site.until(lambda: device.running == wanted, timeout_s=PATIENCE_S)
    await site.until_states("R", timeout_s=PATIENCE_S)
    await site.cluster.patch_status(Ref(GATEWAY_DEPLOYMENT, site.namespace, NAME), None)
    await site.until_states("R", timeout_s=PATIENCE_S)


def _as_account(kubeconfig: Path, token: str, to: Path) -> Path:
    """Write a kubeconfig of the same server for the bearer of `token`."""
    config: dict[str, Any] = yaml.safe_load(kubeconfig.read_text())
    config["users"] = [{"name": ACCOUNT, "user": {"token": token}}]
    for context in config["contexts"]:
        context["context"]["user"] = ACCOUNT
    to.write_text(yaml.safe_dump(config))
    return to


@pytest.mark.needs_kubernetes
async def test_the_documented_rights_are_enough_and_no_more(tmp_path: Path) -> None:
    with real_server(tmp_path) as kubeconfig:
        admin = Kube.of(kubeconfig, tmp_path)
        async with KubernetesCluster(kubeconfig) as cluster:
            site = await _site(cluster, tmp_path)
            rbac = f"{RBAC}/{site.namespace}"
            admin.create(f"{rbac}/roles", {"metadata": {"name": ACCOUNT}, "rules": RULES})
            subject = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": site.namespace}
            role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": ACCOUNT}
            admin.create(
                f"{rbac}/rolebindings",
                {"metadata": {"name": ACCOUNT}, "roleRef": role, "subjects": [subject]},
            )
            token = await cluster.create_token(site.namespace, ACCOUNT, seconds=3600)
            own = _as_account(kubeconfig, token, tmp_path / "agent.kubeconfig")
            async with KubernetesCluster(own) as bound:
                site.agents_cluster = bound
                await site.add("a")
                await site.want(site.pair("one"))
                site.start()
                await site.until_states("R", timeout_s=PATIENCE_S)
                lease = Ref(LEASE, site.namespace, ACCOUNT)
                assert await bound.get(lease) is not None
                with pytest.raises(ForbiddenError):
                    await bound.get(Ref(GATEWAY_DEPLOYMENT, site.namespace, "another"))
                with pytest.raises(ForbiddenError):
                    await bound.patch(Ref(EDGE_GATEWAY, site.namespace, NAME), {"spec": {}})
                await site.close()
            admin.delete(f"/api/v1/namespaces/{site.namespace}")
