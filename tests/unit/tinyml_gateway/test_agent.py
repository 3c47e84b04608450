"""The whole agent on a FakeCluster with fake devices behind ptys."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tinyml_gateway.rollout import Policy
from tinyml_kube.cluster import Ref
from tinyml_kube.errors import UnavailableError
from tinyml_kube.fake import FakeCluster
from tinyml_kube.resources import EDGE_GATEWAY, GATEWAY_DEPLOYMENT, LEASE

from tests.support.fake_device import CODE, SECONDARY, WEIGHTS, FakeDevice, PowerCutError, an_image
from tests.support.gateway_site import NAME, NAMESPACE, Site

DEPLOYMENT = Ref(GATEWAY_DEPLOYMENT, NAMESPACE, NAME)
LEASE_REF = Ref(LEASE, NAMESPACE, f"tinyml-gateway-{NAME}")


@pytest.fixture(autouse=True)
def _quiet_library() -> Iterator[None]:
    logging.getLogger("smpclient").setLevel(logging.CRITICAL)
    yield
    logging.getLogger("smpclient").setLevel(logging.NOTSET)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    site = Site(tmp_path)
    yield site
    await site.close()


def hashes(image: dict[str, dict[str, str]]) -> tuple[str, str]:
    return image["code"]["imageHash"], image["weights"]["imageHash"]


async def test_factory_devices_end_running_what_the_deployment_says(site: Site) -> None:
    for name in ("a", "b", "c"):
        await site.add(name)
    image = site.pair("one")
    await site.want(image)
    site.start()
    await site.until_states("RRR")
    status = await site.status()
    assert status["observedGeneration"] == 1
    assert status["failures"] == []
    assert status["groups"] == [{"image": "m-one", "states": "RRR"}]
    for device in site.devices.values():
        assert device.running == hashes(image)
        assert device.resets == 1


async def test_an_artifact_is_downloaded_once_for_all_devices(site: Site) -> None:
    for name in "abcdef":
        await site.add(name)
    await site.want(site.pair("one"))
    site.start()
    await site.until_states("RRRRRR")
    assert site.downloader is not None
    assert sorted(site.downloader.fetched) == sorted(site.files)


async def test_a_restarted_agent_touches_nothing_that_is_right(site: Site) -> None:
    device = await site.add("a")
    await site.want(site.pair("one"))
    site.start()
    await site.until_states("R")
    await site.stop()
    written = dict(device.written)
    site.start()
    before = device.requests
    await site.until(lambda: device.requests > before)
    await site.until_states("R")
    assert (device.written, device.resets) == (written, 1)
    assert site.downloader is not None
    assert site.downloader.fetched == []


async def test_a_new_wish_replaces_the_old_one_and_its_artifacts(site: Site) -> None:
    device = await site.add("a")
    await site.want(site.pair("one"))
    site.start()
    await site.until_states("R")
    two = site.pair("two")
    await site.want(two)
    await site.until(lambda: device.running == hashes(two))
    await site.until_states("R")
    assert (await site.status())["observedGeneration"] == 2
    names = {p.name for p in (site.folder / "artifacts").iterdir()}
    assert names == {two[k]["digest"].removeprefix("sha256:") for k in ("code", "weights")}


async def test_retrained_weights_travel_alone(site: Site) -> None:
    device = await site.add("a")
    one = site.pair("one")
    await site.want(one)
    site.start()
    await site.until_states("R")
    sent = device.written[CODE]
    retrained = one | {"name": "m-two", "weights": site.pair("two")["weights"]}
    await site.want(retrained)
    await site.until(lambda: device.running == hashes(retrained))
    assert device.written[CODE] == sent


async def test_a_device_of_another_class_is_refused_before_anything_is_erased(site: Site) -> None:
    device = await site.add("a", FakeDevice(device_class="stm32f405"))
    await site.add("b")
    await site.want(site.pair("one"))
    site.start()
    await site.until_states("FR")
    (failure,) = (await site.status())["failures"]
    assert (failure["device"], failure["reason"]) == ("a", "DeviceClassMismatch")
    assert "'stm32f405'" in failure["message"]
    assert "'posix'" in failure["message"]
    assert (device.uploads_begun, device.resets) == (0, 0)


async def test_an_image_of_another_class_than_the_spec_says_never_reaches_a_device(
    site: Site,
) -> None:
    device = await site.add("a")
    await site.want(site.pair("one", device_class="microbit") | {"deviceClass": "posix"})
    site.start()
    await site.until_states("F")
    (failure,) = (await site.status())["failures"]
    assert failure["reason"] == "DeviceClassMismatch"
    assert "class 'microbit', the spec says 'posix'" in failure["message"]
    assert device.uploads_begun == 0


async def test_an_artifact_with_another_image_hash_never_reaches_a_device(site: Site) -> None:
    device = await site.add("a")
    image = site.pair("one")
    image["code"]["imageHash"] = "0" * 64
    await site.want(image)
    site.start()
    await site.until_states("F")
    assert await site.reasons() == {"a": "ImageInvalid"}
    assert device.uploads_begun == 0


async def test_an_offline_device_is_waited_for_and_blocks_nobody(site: Site) -> None:
    away = await site.add("a", FakeDevice(online=False))
    await site.add("b")
    await site.want(site.pair("one"))
    site.start()
    await site.until_states("OR")
    (failure,) = (await site.status())["failures"]
    assert failure["reason"] == "DeviceOffline"
    assert "no answer from serial:///" in failure["message"]
    away.power_on()
    await site.until_states("RR")
    assert (await site.status())["failures"] == []


async def test_a_slow_device_does_not_hold_up_the_others(site: Site) -> None:
    slow = await site.add("a", FakeDevice(delay_s=0.05))
    quick = await site.add("b")
    await site.want(site.pair("one"))
    site.start()
    await site.until(lambda: quick.resets == 1)
    assert slow.resets == 0
    await site.until_states("RR")


async def test_a_device_that_vanishes_later_is_noticed(site: Site) -> None:
    device = await site.add("a")
    await site.want(site.pair("one"))
    site.start()
    await site.until_states("R")
    device.cut_power()
    await site.until_states("O")
    device.power_on()
    await site.until_states("R")
    assert device.resets == 1


async def test_a_device_that_was_swapped_is_flashed(site: Site) -> None:
    device = await site.add("a")
    image = site.pair("one")
    await site.want(image)
    site.start()
    await site.until_states("R")
    device.slots = dict(FakeDevice().slots)
    device.power_on()
    await site.until(lambda: device.running == hashes(image))
    await site.until_states("R")


@pytest.mark.parametrize("says_match", [True, False])
async def test_an_upload_that_arrives_corrupted_is_sent_again(site: Site, says_match: bool) -> None:
    device = await site.add("a", FakeDevice(corrupt_uploads=1, says_match=says_match))
    image = site.pair("one")
    await site.want(image)
    site.start()
    await site.until_states("R")
    assert device.running == hashes(image)
    assert device.uploads_begun == 3


async def test_a_flash_that_always_corrupts_fails_with_the_slot_and_the_hashes(site: Site) -> None:
    await site.add("a", FakeDevice(corrupt_uploads=1_000, says_match=False))
    await site.want(site.pair("one"))
    site.start()
    await site.until_states("F")
    (failure,) = (await site.status())["failures"]
    assert failure["reason"] == "DeviceProtocolError"
    assert "no valid image in slot 1" in failure["message"]


@pytest.mark.parametrize("keeps_boots", [True, False])
async def test_a_pair_that_the_boot_stage_refuses_fails_and_is_tried_again(
    site: Site, keeps_boots: bool
) -> None:
    device = await site.add("a", FakeDevice(refuses_pairs=True, keeps_boots=keeps_boots))
    await site.want(site.pair("one"))
    site.start()
    await site.until_states("F")
    (failure,) = (await site.status())["failures"]
    assert failure["reason"] == "NotActivated"
    assert "runs no pair instead of code" in failure["message"]
    await site.until(lambda: device.uploads_begun >= 6)  # each attempt sends both images afresh
    assert await site.states() in ("F", "U")
    device.refuses_pairs = False
    await site.until_states("R")


async def test_what_waits_in_a_slot_and_does_not_belong_there_is_overwritten(site: Site) -> None:
    device = await site.add("a")
    image = site.pair("one")
    await site.want(image)
    site.start()
    await site.until_states("R")
    device.slots[(WEIGHTS, SECONDARY)] = an_image(b"left over").data
    await site.until(lambda: device._hash(WEIGHTS, SECONDARY) == hashes(image)[1])
    assert device.resets == 1
    device.power_on()
    assert device.running == hashes(image)


async def test_wrong_bytes_behind_a_digest_are_said_and_heal_without_a_restart(site: Site) -> None:
    device = await site.add("a")
    image = site.pair("one")
    digest = image["code"]["digest"]
    right = site.files[digest]
    site.files[digest] = right[:-1] + b"!"
    await site.want(image)
    site.start()
    await site.until_states("F")
    assert await site.reasons() == {"a": "DigestMismatch"}
    site.files[digest] = right
    await site.until_states("R")
    assert device.running == hashes(image)


async def test_an_artifact_that_cannot_be_fetched_leaves_the_device_pending(site: Site) -> None:
    await site.add("a")
    image = site.pair("one")
    data = site.files.pop(image["weights"]["digest"])
    await site.want(image)
    site.start()
    await site.until(site.reasons)
    assert await site.reasons() == {"a": "ArtifactUnavailable"}
    assert await site.states() == "P"
    site.files[image["weights"]["digest"]] = data
    await site.until_states("R")


async def test_a_corrected_address_is_used_at_once(site: Site) -> None:
    await site.add("a")
    right = site.addresses["a"]
    site.addresses["a"] = "serial:///dev/not-there"
    image = site.pair("one")
    await site.want(image)
    site.start()
    await site.until_states("O")
    site.addresses["a"] = right
    await site.want(image)
    await site.until_states("R")


async def test_a_wiped_status_is_written_again(site: Site) -> None:
    await site.add("a")
    await site.want(site.pair("one"))
    site.start()
    await site.until_states("R")
    await site.cluster.patch_status(DEPLOYMENT, None)
    await site.until_states("R")


async def test_the_status_is_written_at_most_once_an_interval(site: Site) -> None:
    site.options = replace(site.options, report_interval_s=0.4)
    for name in "abcdefgh":
        await site.add(name)
    await site.want(site.pair("one"))
    begun = asyncio.get_running_loop().time()
    site.start()
    await site.until_states("R" * 8)
    elapsed = asyncio.get_running_loop().time() - begun
    writes = [verb for verb, _ in site.cluster.writes if verb == "patch-status"]
    assert len(writes) <= 1 + elapsed / 0.4


async def test_a_status_that_says_nothing_new_is_not_written(site: Site) -> None:
    device = await site.add("a")
    await site.want(site.pair("one"))
    site.start()
    await site.until_states("R")
    await asyncio.sleep(0.05)
    writes = len(site.cluster.writes)
    before = device.requests
    await site.until(lambda: device.requests > before + 2)  # it has been looked at again
    await asyncio.sleep(0.05)
    assert len(site.cluster.writes) == writes


async def test_the_agent_says_that_it_is_alive(site: Site) -> None:
    site.start()
    await site.until(lambda: ("create", LEASE_REF) in site.cluster.writes)
    lease = await site.cluster.get(LEASE_REF)
    assert lease is not None
    assert lease["spec"]["holderIdentity"] == f"tinyml-gateway-{NAME}"
    assert lease["spec"]["leaseDurationSeconds"] == 60
    await site.stop()
    site.start()
    await site.until(lambda: ("patch", LEASE_REF) in site.cluster.writes)


async def test_without_a_deployment_devices_keep_what_they_run(site: Site) -> None:
    device = await site.add("a")
    await site.want(site.pair("one"))
    site.start()
    await site.until_states("R")
    running = device.running
    await site.cluster.delete(DEPLOYMENT)
    await asyncio.sleep(0.05)
    requests = device.requests
    await asyncio.sleep(0.6)
    assert (device.running, device.requests) == (running, requests)


async def test_no_more_devices_are_flashed_at_once_than_the_limit(site: Site) -> None:
    site.options = replace(site.options, policy=Policy(parallel_flash=2, verify_s=60))
    uploading: set[str] = set()
    most = 0

    def watch(name: str, device: FakeDevice) -> None:
        def hook(op: int, group: int, command: int) -> None:
            nonlocal most
            if (group, command) == (1, 1):
                uploading.add(name)
            elif (group, command) == (0, 5):
                uploading.discard(name)
            most = max(most, len(uploading))

        device.hook = hook

    for name in "abcdef":
        watch(name, await site.add(name, FakeDevice(delay_s=0.002)))
    await site.want(site.pair("one"))
    site.start()
    await site.until_states("RRRRRR")
    assert most == 2


class _Away(FakeCluster):
    """An API server that is not there."""

    async def get(self, ref: Ref) -> None:
        raise UnavailableError("connection refused")


async def test_a_gateway_without_its_cluster_goes_on_with_what_it_has(site: Site) -> None:
    device = await site.add("a", FakeDevice(online=False))
    image = site.pair("one")
    spare = await site.add("b")
    await site.want(image)
    site.start()
    await site.until_states("OR")
    await site.kill()
    site.agents_cluster = _Away()
    site.files.clear()
    site.start()
    device.power_on()
    await site.until(lambda: device.running == hashes(image))
    assert spare.resets == 1


async def test_a_cluster_that_refuses_the_report_is_asked_again(site: Site) -> None:
    await site.add("a")
    await site.want(site.pair("one"))
    refusals = 2

    def hook(verb: str, ref: Ref) -> None:
        nonlocal refusals
        if verb == "patch-status" and refusals:
            refusals -= 1
            raise UnavailableError("too many requests")

    site.cluster.hook = hook
    site.start()
    await site.until_states("R")
    assert refusals == 0


async def test_a_suspended_gateway_flashes_nothing(site: Site) -> None:
    device = await site.add("a")
    await site.want(site.pair("one"))
    edge = Ref(EDGE_GATEWAY, NAMESPACE, NAME)
    await site.cluster.patch(edge, {"spec": {"suspend": True}})
    site.start()
    await site.until(lambda: device.requests > 2)
    await asyncio.sleep(0.1)
    assert (await site.states(), device.uploads_begun) == ("P", 0)
    await site.cluster.patch(edge, {"spec": {"suspend": False}})
    await site.until_states("R")


async def test_stopping_in_the_middle_is_quick_and_the_next_start_goes_on(site: Site) -> None:
    device = await site.add("a", FakeDevice(delay_s=0.03))
    image = site.pair("one", size=20_000)
    await site.want(image)
    site.start()
    await site.until(lambda: device.written[CODE] > 4000)
    begun = asyncio.get_running_loop().time()
    await site.stop()
    assert asyncio.get_running_loop().time() - begun < 1.0
    assert await site.states() == "U"
    device.delay_s = 0
    site.start()
    await site.until_states("R")
    assert device.written[CODE] == image["code"]["sizeBytes"], "nothing was sent twice"


async def _requests_of_an_update(folder: Path) -> int:
    site = Site(folder)
    device = await site.add("a")
    await site.want(site.pair("one"))
    site.start()
    await site.until(lambda: device.resets == 1)
    await site.until_states("R")
    count = device.requests
    await site.close()
    return count


async def test_an_agent_killed_at_any_request_loses_nothing_and_flashes_nothing_twice(
    tmp_path: Path,
) -> None:
    total = await _requests_of_an_update(tmp_path / "count")
    assert total > 12
    for number in range(1, total + 1):
        site = Site(tmp_path / str(number))
        device = await site.add("a")
        reached = asyncio.Event()

        def hook(
            op: int, group: int, command: int, device: FakeDevice = device, n: int = number,
            reached: asyncio.Event = reached,
        ) -> None:  # fmt: skip
            if device.requests == n:
                reached.set()
                device.delay_s = 10.0  # the answer comes to nobody

        device.hook = hook
        image = site.pair("one")
        await site.want(image)
        site.start()
        await reached.wait()
        await site.kill()
        device.delay_s = 0.0
        site.start()
        await site.until_states("R")
        assert device.running == hashes(image), f"killed at request {number}"
        sizes = {CODE: image["code"]["sizeBytes"], WEIGHTS: image["weights"]["sizeBytes"]}
        assert device.written == sizes, f"killed at request {number}"
        assert device.resets == 1, f"killed at request {number}"
        await site.close()


async def test_a_device_that_loses_power_at_any_request_ends_running(tmp_path: Path) -> None:
    total = await _requests_of_an_update(tmp_path / "count")
    for number in range(1, total + 1):
        site = Site(tmp_path / str(number))
        device = await site.add("a")

        def hook(
            op: int, group: int, command: int, device: FakeDevice = device, n: int = number
        ) -> None:
            if device.requests == n:
                asyncio.get_running_loop().call_later(0.05, device.power_on)
                raise PowerCutError

        device.hook = hook
        image = site.pair("one")
        await site.want(image)
        site.start()
        await site.until_runs(device, hashes(image))
        await site.until_states("R")
        await site.close()


async def test_metrics_count_devices_bytes_and_failures(site: Site) -> None:
    await site.add("a")
    await site.add("b", FakeDevice(device_class="other"))
    await site.add("c", FakeDevice(online=False))
    image = site.pair("one")
    await site.want(image)
    site.start()
    await site.until_states("RFO")
    value = site.metrics.registry.get_sample_value
    assert value("tinyml_gateway_devices", {"state": "running"}) == 1
    assert value("tinyml_gateway_devices", {"state": "failed"}) == 1
    assert value("tinyml_gateway_devices", {"state": "offline"}) == 1
    sizes = image["code"]["sizeBytes"] + image["weights"]["sizeBytes"]
    assert value("tinyml_gateway_flashed_bytes_total") == sizes
    assert value("tinyml_gateway_fetched_bytes_total") == sizes
    assert value("tinyml_gateway_flashes_total", {"outcome": "succeeded"}) == 1
    offline = value("tinyml_gateway_failures_total", {"reason": "DeviceOffline"})
    assert offline is not None
    assert offline >= 1
