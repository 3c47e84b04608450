"""The agent's sessions with a device: look at it (`probe`), or bring it to a pair of images
(`flash`).

Called by `agent`, one at a time per device. A session begins with a look, whatever is on record,
and does only what is missing, so one that was cut anywhere is repeated safely: what runs is left
alone, what was uploaded is not sent again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from tinyml_gateway.device import CODE, PRIMARY, SECONDARY, WEIGHTS, Device, Slots, Timeouts
from tinyml_gateway.errors import (
    DeviceBusyError,
    DeviceClassMismatchError,
    DeviceOfflineError,
    DeviceProtocolError,
    DeviceRefusedError,
    NotActivatedError,
)
from tinyml_gateway.rollout import DesiredDevice, Pair, Seen

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class VisitLimits:
    """Seconds: `return_s` for a device to come back from a reset and run the pair, looked at every
    `return_poll_s`; `visit_s` for a whole session.
    """

    timeouts: Timeouts = field(default_factory=Timeouts)
    return_s: float = 30.0
    return_poll_s: float = 0.2
    visit_s: float = 1800.0


async def probe(address: str, limits: VisitLimits, clock: Callable[[], float]) -> Seen:
    """Ask a device who it is and what it runs. Raises DeviceErrors."""
    async with (
        _bounded(address, limits.visit_s),
        Device(address, timeouts=limits.timeouts) as device,
    ):
        return await _look(device, clock)


async def flash(
    wish: DesiredDevice,
    code: bytes,
    weights: bytes,
    *,
    afresh: bool,
    limits: VisitLimits,
    clock: Callable[[], float],
    sent: Callable[[int], None],
) -> Seen:
    """Bring the device to `wish` and return what it then says. `sent` is told the bytes of each
    upload.

    Raises DeviceErrors: `DeviceClassMismatchError` before anything is erased, `NotActivatedError`
    if it comes back with other images than it was given.
    """
    address = wish.address
    assert address is not None, "rollout never flashes a device without address"
    async with _bounded(address, limits.visit_s):
        async with Device(address, timeouts=limits.timeouts) as device:
            seen = await _look(device, clock)
            if seen.device_class != wish.device_class:
                raise DeviceClassMismatchError(
                    f"{address} is of device class '{seen.device_class}', the images are for "
                    f"'{wish.device_class}': nothing was erased"
                )
            await _upload_missing(device, wish, code, weights, afresh, sent)
            seen = await _look(device, clock)
            if seen.pair == wish.pair:
                return seen
            boots = await _boots(device)
            await device.reset()
        return await _await_return(wish, address, boots, limits, clock)


async def _look(device: Device, clock: Callable[[], float]) -> Seen:
    info = await device.info()
    slots = await device.images()
    return Seen(
        at=clock(),
        address=device.address,
        device_class=info.device_class,
        pair=_pair(slots, PRIMARY),
        waiting=Pair(slots.get((CODE, SECONDARY), ""), slots.get((WEIGHTS, SECONDARY), "")),
    )


def _pair(slots: Slots, slot: int) -> Pair | None:
    code, weights = slots.get((CODE, slot)), slots.get((WEIGHTS, slot))
    return None if code is None or weights is None else Pair(code, weights)


async def _upload_missing(
    device: Device,
    wish: DesiredDevice,
    code: bytes,
    weights: bytes,
    afresh: bool,
    sent: Callable[[int], None],
) -> None:
    """Upload what the device neither runs nor has waiting; overwrite what waits there and is not
    wanted.
    """
    slots = await device.images()
    for image, data, image_hash in (
        (WEIGHTS, weights, wish.pair.weights),
        (CODE, code, wish.pair.code),
    ):
        runs = slots.get((image, PRIMARY)) == image_hash
        waits = slots.get((image, SECONDARY))
        if (runs and waits is None) or (waits == image_hash and not afresh):
            continue
        bytes_sent = await device.upload(image, data, resume=not afresh)
        sent(bytes_sent)
        logger.debug("image uploaded device=%s image=%d bytes=%d", wish.name, image, bytes_sent)
        found = (await device.images()).get((image, SECONDARY))
        if found != image_hash:
            # Perhaps remains of an older upload were taken for ours: send all of it, once.
            sent(await device.upload(image, data, resume=False))
            found = (await device.images()).get((image, SECONDARY))
        if found != image_hash:
            raise DeviceProtocolError(
                f"{device.address} has {found or 'no valid image'} in slot 1 of image {image} "
                f"after the upload of {len(data)} bytes that make {image_hash}: "
                "check the line and the flash"
            )


async def _boots(device: Device) -> int:
    """Return the boot counter, 0 from a device that keeps none."""
    try:
        return (await device.stats()).boots
    except (DeviceRefusedError, DeviceProtocolError):
        return 0


async def _await_return(
    wish: DesiredDevice,
    address: str,
    boots: int,
    limits: VisitLimits,
    clock: Callable[[], float],
) -> Seen:
    """Ask until the device runs the pair, says that it has booted and does not, or time is up."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + limits.return_s
    seen: Seen | None = None
    booted = False
    while not booted and loop.time() < deadline:
        await asyncio.sleep(limits.return_poll_s)
        try:
            async with Device(address, timeouts=limits.timeouts) as device:
                seen = await _look(device, clock)
                if seen.pair == wish.pair:
                    return seen
                booted = await _boots(device) > boots > 0
        except (DeviceOfflineError, DeviceBusyError, DeviceProtocolError):
            continue  # it is on its way, or in the middle of a line
    if seen is None:
        raise DeviceOfflineError(
            f"{address} did not come back within {limits.return_s:g} s after its reset"
        )
    raise NotActivatedError(
        f"{address} was reset {'and booted' if booted else f'{limits.return_s:g} s ago'} but runs "
        f"{_words(seen.pair)} instead of {_words(wish.pair)}: its boot stage refused the pair"
    )


def _words(pair: Pair | None) -> str:
    return "no pair" if pair is None else f"code {pair.code[:12]} with weights {pair.weights[:12]}"


@contextlib.asynccontextmanager
async def _bounded(address: str, limit_s: float) -> AsyncIterator[None]:
    """Bound a whole session: no combination of slow answers holds a place for ever."""
    try:
        async with asyncio.timeout(limit_s):
            yield
    except TimeoutError as error:
        raise DeviceOfflineError(f"{address} took longer than {limit_s:g} s: given up") from error
