"""What the cluster wants of this gateway: GatewayDeployment and EdgeGateway read into
`rollout.Desired`.

Pure; called by `agent` on each change of either object. The API server has validated both (crds/),
so this reads and does not validate again; a name that leads nowhere becomes a device without
address or is left out, never an exception.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinyml_api.edgegateway import EdgeGatewaySpec
from tinyml_api.gatewaydeployment import GatewayDeploymentSpec

from tinyml_gateway.rollout import Desired, DesiredDevice, DesiredGroup

NOTHING = Desired(generation=0, groups=(), devices={})


def read_desired(deployment: Mapping[str, Any] | None, edge: Mapping[str, Any] | None) -> Desired:
    """Return the wish. Without a GatewayDeployment it is empty: devices keep what they run."""
    if deployment is None:
        return NOTHING
    spec = GatewayDeploymentSpec.from_dict(deployment["spec"])
    site = EdgeGatewaySpec.from_dict(edge["spec"]) if edge is not None else EdgeGatewaySpec(())
    addresses = {
        (group.name, name): address
        for group in site.device_groups
        for name, address in group.devices.items()
    }
    images = {image.name: image for image in spec.images}
    return Desired(
        generation=int(deployment["metadata"].get("generation", 0)),
        groups=tuple(DesiredGroup(group.image, group.devices) for group in spec.groups),
        devices={
            name: DesiredDevice(
                name=name,
                group=group.device_group,
                address=addresses.get((group.device_group, name)),
                device_class=images[group.image].device_class,
                code=images[group.image].code,
                weights=images[group.image].weights,
            )
            for group in spec.groups
            if group.image in images
            for name in group.devices
        },
        suspended=site.suspend,
    )
