"""`Device` against a fake device: transports, lost and late answers, uploads, inference, errors."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import pty
import tty
from collections.abc import Iterator

import pytest
from tinyml_gateway.device import Device, Timeouts
from tinyml_gateway.errors import (
    AddressError,
    DeviceBusyError,
    DeviceOfflineError,
    DeviceProtocolError,
    DeviceRefusedError,
)
from tinyml_gateway.infer import classify, classify_all
from tinyml_gateway.transport import Address, parse_address
from tinyml_gateway.transport.framing import FrameReader

from tests.support.fake_device import CODE, SECONDARY, WEIGHTS, FakeDevice, PowerCutError, an_image

QUICK = Timeouts(connect_s=0.3, request_s=0.15, erase_s=0.15, run_s=0.3, attempts=3)


@pytest.fixture(autouse=True)
def _quiet_library() -> Iterator[None]:
    logging.getLogger("smpclient").setLevel(logging.CRITICAL)
    yield
    logging.getLogger("smpclient").setLevel(logging.NOTSET)


def a_device_with_model() -> FakeDevice:
    fake = FakeDevice()
    fake.slots[(CODE, SECONDARY)] = an_image(b"code").data
    fake.slots[(WEIGHTS, SECONDARY)] = an_image(b"weights").data
    fake.power_on()
    return fake


@pytest.mark.parametrize("way", ["on_pty", "on_tcp", "on_udp"])
async def test_a_device_is_updated_and_asked_over_each_transport(way: str) -> None:
    fake = FakeDevice()
    code, weights = an_image(os.urandom(5000)), an_image(b"w" * 3000)
    async with getattr(fake, way)() as address:
        async with Device(address, timeouts=QUICK) as device:
            assert (await device.info()).device_class == "posix"
            assert await device.upload(CODE, code.data) == len(code.data)
            assert await device.upload(WEIGHTS, weights.data) == len(weights.data)
            assert (await device.images())[(CODE, SECONDARY)] == code.image_hash
            await device.reset()
        assert fake.running == (code.image_hash, weights.image_hash)
        outputs, ticks, hz = await classify(address, b"i" * 64)
    assert outputs == hashlib.sha256(b"i" * 64).digest()
    assert (ticks, hz) == (1234, 1_000_000)


@pytest.mark.parametrize("buf_size", [96, 384, 1024, 4096])
async def test_messages_fill_the_buffer_that_the_device_names(buf_size: int) -> None:
    fake = FakeDevice(buf_size=buf_size)
    longest = 0
    answer = fake.handle

    def handle(message: bytes) -> bytes | None:
        nonlocal longest
        longest = max(longest, len(message))
        return answer(message)

    fake.handle = handle  # type: ignore[method-assign]
    async with fake.on_pty() as address, Device(address, timeouts=QUICK) as device:
        await device.upload(CODE, an_image(b"x" * 9000).data)
    assert buf_size - 4 - 8 <= longest <= buf_size - 4


async def test_a_buffer_that_cannot_be_is_refused() -> None:
    async with FakeDevice(buf_size=7).on_pty() as address:
        with pytest.raises(DeviceProtocolError, match="buffer has 7 bytes"):
            await Device(address, timeouts=QUICK).connect()


async def test_lost_answers_are_asked_for_again() -> None:
    fake = FakeDevice(drop_every=4)
    image = an_image(b"x" * 6000)
    async with fake.on_pty() as address, Device(address, timeouts=QUICK) as device:
        for _ in range(8):
            await device.info()
        await device.upload(CODE, image.data)
        assert (await device.images())[(CODE, SECONDARY)] == image.image_hash
    assert fake.written[CODE] == len(image.data), "what was written is not sent again"


async def test_a_late_answer_is_not_taken_for_the_next_one() -> None:
    fake = FakeDevice()
    async with fake.on_pty() as address, Device(address, timeouts=QUICK) as device:
        fake.delay_s = 0.2  # the first answer comes after the question was given up
        info = asyncio.create_task(device.info())
        await asyncio.sleep(0.17)
        fake.delay_s = 0.0
        assert (await info).hwid == "fake-0001"
        await asyncio.sleep(0.25)  # now the answer to the second asking has come too
        assert (await device.stats()).boots == 1


async def test_a_silent_device_is_offline_and_the_message_says_how_long_it_was_asked() -> None:
    async with FakeDevice(online=False).on_pty() as address:
        with pytest.raises(DeviceOfflineError, match=r"to 3 requests of 0\.15 s"):
            await Device(address, timeouts=QUICK).connect()


async def test_a_device_file_that_is_not_there_is_offline() -> None:
    with pytest.raises(DeviceOfflineError, match="cannot be opened"):
        await Device("serial:///dev/not-there", timeouts=QUICK).connect()


async def test_a_refused_tcp_connection_is_offline() -> None:
    with pytest.raises(DeviceOfflineError, match="cannot be opened"):
        await Device("tcp://127.0.0.1:1", timeouts=QUICK).connect()


async def test_a_device_that_goes_away_in_the_middle_is_offline() -> None:
    fake = FakeDevice()
    async with fake.on_pty() as address:
        device = Device(address, timeouts=QUICK)
        await device.connect()
    with pytest.raises(DeviceOfflineError):
        await device.info()
    await device.close()


async def test_a_port_that_another_process_holds_is_busy_and_then_free() -> None:
    async with FakeDevice().on_pty() as address:
        async with Device(address, timeouts=QUICK):
            with pytest.raises(DeviceBusyError, match="held by another process"):
                await Device(address, timeouts=QUICK).connect()
        async with Device(address, timeouts=QUICK) as device:
            await device.info()


async def test_an_upload_goes_on_where_the_line_was_cut() -> None:
    fake = FakeDevice()
    image = an_image(b"x" * 9000)

    async with fake.on_pty() as address:
        async with Device(address, timeouts=QUICK) as device:

            def stop(offset: int) -> None:
                if offset > 4000:
                    raise ConnectionAbortedError

            with pytest.raises(ConnectionAbortedError):
                await device.upload(CODE, image.data, progress=stop)
        half = fake.written[CODE]
        async with Device(address, timeouts=QUICK) as device:
            assert await device.upload(CODE, image.data) == len(image.data) - half
    assert fake.uploads_begun == 1
    assert fake.written[CODE] == len(image.data)


async def test_an_upload_afresh_sends_everything() -> None:
    fake = FakeDevice()
    image = an_image(b"x" * 3000)
    async with fake.on_pty() as address, Device(address, timeouts=QUICK) as device:
        await device.upload(CODE, image.data)
        assert await device.upload(CODE, image.data) == 0
        assert await device.upload(CODE, image.data, resume=False) == len(image.data)


async def test_an_image_larger_than_its_slot_is_refused_in_words() -> None:
    fake = FakeDevice(slot_bytes=4096)
    async with fake.on_pty() as address, Device(address, timeouts=QUICK) as device:
        with pytest.raises(DeviceRefusedError, match="larger than its slot") as caught:
            await device.upload(CODE, b"x" * 5000)
    assert (caught.value.group, caught.value.rc) == (1, 30)


async def test_a_power_cut_in_an_upload_is_offline() -> None:
    fake = FakeDevice()
    chunks = 0

    def hook(op: int, group: int, command: int) -> None:
        nonlocal chunks
        chunks += (group, command) == (1, 1)
        if chunks == 3:
            raise PowerCutError

    fake.hook = hook
    async with fake.on_pty() as address, Device(address, timeouts=QUICK) as device:
        with pytest.raises(DeviceOfflineError, match=r"no answer"):
            await device.upload(CODE, an_image(b"x" * 5000).data)


async def test_an_upload_goes_on_after_the_device_was_reset_in_the_middle() -> None:
    fake = FakeDevice()
    chunks = 0

    def hook(op: int, group: int, command: int) -> None:
        nonlocal chunks
        chunks += (group, command) == (1, 1)
        if chunks == 3:
            fake.power_on()

    fake.hook = hook
    image = an_image(b"x" * 5000)
    async with fake.on_pty() as address, Device(address, timeouts=QUICK) as device:
        await device.upload(CODE, image.data)
        assert (await device.images())[(CODE, SECONDARY)] == image.image_hash


async def test_a_line_that_always_corrupts_is_said_with_the_bytes() -> None:
    fake = FakeDevice(corrupt_uploads=100)
    async with fake.on_pty() as address, Device(address, timeouts=QUICK) as device:
        with pytest.raises(DeviceProtocolError, match=r"4 times, and never the 2\d\d\d bytes"):
            await device.upload(CODE, an_image(b"x" * 1500).data)


async def test_an_upload_that_does_not_move_is_given_up() -> None:
    fake = FakeDevice()
    answer = fake._take_chunk

    def stuck(body: dict[str, object]) -> dict[str, object]:
        return answer(body) if body["off"] == 0 else {"off": body["off"]}

    fake._take_chunk = stuck  # type: ignore[method-assign]
    async with fake.on_pty() as address, Device(address, timeouts=QUICK) as device:
        with pytest.raises(DeviceProtocolError, match="answers an upload of 5601 bytes"):
            await device.upload(CODE, an_image(b"x" * 5000).data)


async def test_a_device_without_a_model_says_so() -> None:
    async with FakeDevice().on_pty() as address:
        with pytest.raises(DeviceRefusedError, match="no model"):
            await classify(address, b"x")


async def test_an_input_of_the_wrong_size_is_refused_before_it_is_sent() -> None:
    fake = a_device_with_model()
    async with fake.on_pty() as address:
        with pytest.raises(
            DeviceRefusedError, match=r"input 0 has 63 bytes, the model .* takes 64"
        ):
            await classify(address, b"x" * 63)


async def test_many_inputs_are_classified_over_one_connection() -> None:
    fake = a_device_with_model()
    inputs = [bytes([i]) * 64 for i in range(5)]
    async with fake.on_pty() as address:
        outputs = [r.outputs async for r in classify_all(address, inputs)]
    assert outputs == [hashlib.sha256(i).digest() for i in inputs]


async def test_errors_of_our_own_group_are_named() -> None:
    fake = FakeDevice()
    async with fake.on_pty() as address, Device(address, timeouts=QUICK) as device:
        with pytest.raises(DeviceRefusedError, match=r"RunWrite: no model \(group 64, rc 1\)"):
            await device.infer(b"")


async def test_an_answer_that_is_not_smp_is_a_protocol_error() -> None:
    fake = FakeDevice()
    fake._image_states = lambda: [{"slot": "one"}]  # type: ignore[method-assign]
    async with fake.on_pty() as address, Device(address, timeouts=QUICK) as device:
        with pytest.raises(DeviceProtocolError, match="not SMP"):
            await device.images()


def test_frames_are_found_among_noise_and_broken_ones_dropped() -> None:
    from smp import packet

    frame = b"".join(packet.encode(b"m" * 200))
    broken = frame.replace(b"b", b"c", 1)
    reader = FrameReader()
    noise = b"boot: ok\r\n\x04\x14AAAA\n\x06\x09****\n" + b"\xff" * 9000
    messages = reader.feed(noise + b"\n" + broken)
    for i in range(len(frame)):
        messages += reader.feed(frame[i : i + 1])
    assert messages == [b"m" * 200]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("serial:///dev/ttyACM0", Address("serial", "/dev/ttyACM0")),
        ("udp://10.0.0.7:1337", Address("udp", "10.0.0.7:1337")),
        ("tcp://gate:3000", Address("tcp", "gate:3000")),
        ("tcp://[::1]:3000", Address("tcp", "[::1]:3000")),
    ],
)
def test_addresses_are_read(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    ["", "/dev/ttyACM0", "serial://dev/tty", "serial:///", "udp://host", "tcp://host:0",
     "tcp://:3000", "udp://host:99999", "http://host:80", "tcp://me@host:1", "udp://h:1/path"],
)  # fmt: skip
def test_an_address_that_cannot_be_used_is_refused_with_examples(text: str) -> None:
    with pytest.raises(AddressError, match="serial:///dev/ttyACM0, udp://host:1337 or tcp://"):
        parse_address(text)


async def test_a_full_line_is_written_when_there_is_room_again() -> None:
    master, slave = pty.openpty()
    tty.setraw(slave)
    path = os.ttyname(slave)
    device = Device(f"serial://{path}", timeouts=QUICK)
    transport = device._transport
    await transport.connect(path, 1.0)
    payload = b"z" * 60_000  # more than a pty holds
    sending = asyncio.create_task(transport.send(payload))
    await asyncio.sleep(0.05)
    assert not sending.done()
    reader = FrameReader()
    messages: list[bytes] = []
    while not messages:
        messages = reader.feed(await asyncio.to_thread(os.read, master, 65536))
    await sending
    await device.close()
    os.close(master)
    os.close(slave)
    assert messages == [payload]
