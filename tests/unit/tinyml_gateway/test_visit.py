"""Sessions with a device, where the agent cannot be brought to show what they do."""

from __future__ import annotations

import time

import pytest
from tinyml_compiler.images import PackedImage
from tinyml_gateway.errors import DeviceClassMismatchError, DeviceOfflineError
from tinyml_gateway.rollout import DesiredDevice, Seen
from tinyml_gateway.visit import VisitLimits, flash, probe

from tests.support.fake_device import CODE, PRIMARY, FakeDevice, an_image
from tests.support.gateway_site import QUICK, image_file

CODE_IMAGE, WEIGHTS_IMAGE = an_image(b"c" * 1000), an_image(b"w" * 1000)


async def flashed(address: str, code: PackedImage = CODE_IMAGE) -> tuple[Seen, list[int]]:
    sent: list[int] = []
    wish = DesiredDevice("a", "line", address, "posix", image_file(code), image_file(WEIGHTS_IMAGE))
    seen = await flash(
        wish,
        code.data,
        WEIGHTS_IMAGE.data,
        afresh=False,
        limits=QUICK.limits,
        clock=time.time,
        sent=sent.append,
    )
    return seen, sent


async def test_a_device_that_was_swapped_since_it_was_looked_at_is_not_touched() -> None:
    fake = FakeDevice(device_class="microbit")
    async with fake.on_pty() as address:
        with pytest.raises(
            DeviceClassMismatchError, match="'microbit', the images are for 'posix'"
        ):
            await flashed(address)
    assert (fake.uploads_begun, fake.resets) == (0, 0)


async def test_a_device_that_runs_the_pair_already_is_neither_written_nor_reset() -> None:
    fake = FakeDevice()
    async with fake.on_pty() as address:
        seen, sent = await flashed(address)
        again, nothing = await flashed(address)
    assert sent == [len(WEIGHTS_IMAGE.data), len(CODE_IMAGE.data)]
    assert (again.pair, nothing, fake.resets) == (seen.pair, [], 1)


async def test_images_that_wait_for_a_reset_are_only_reset() -> None:
    fake = FakeDevice()
    async with fake.on_pty() as address:
        await flashed(address)
        for image in (0, 1):
            fake.slots[(image, 1)] = fake.slots.pop((image, 0))
        fake.slots[(CODE, PRIMARY)] = FakeDevice().slots[(CODE, PRIMARY)]
        _, sent = await flashed(address)
    assert (sent, fake.resets) == ([], 2)


async def test_a_device_that_never_comes_back_is_offline_with_the_seconds_waited() -> None:
    fake = FakeDevice()

    def hook(op: int, group: int, command: int) -> None:
        if (group, command) == (0, 5):
            fake.cut_power()

    fake.hook = hook
    async with fake.on_pty() as address:
        with pytest.raises(DeviceOfflineError, match=r"within 0\.5 s after its reset"):
            await flashed(address)


async def test_a_session_never_takes_longer_than_its_limit() -> None:
    limits = VisitLimits(timeouts=QUICK.limits.timeouts, visit_s=0.1)
    async with FakeDevice(delay_s=0.06).on_pty() as address:
        with pytest.raises(DeviceOfflineError, match=r"took longer than 0\.1 s"):
            await probe(address, limits, time.time)
