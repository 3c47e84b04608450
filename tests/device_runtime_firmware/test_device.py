"""The firmware over its serial line: the same tests on each board and emulator."""

from __future__ import annotations

import hashlib
import random
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tinyml_compiler.images import pack_image

from tests.device_runtime_firmware.devices import (
    ABI,
    IMAGE,
    INPUT_BYTES,
    OS,
    OUTPUT_BYTES,
    READ,
    TINYML,
    WRITE,
    Client,
    Product,
    client,
    device,
    expected_output,
    weights_blob,
)

BOARDS = [
    pytest.param(("posix", "auto", "auto"), id="posix"),
    pytest.param(("mps2-an386", "auto", "qemu"), id="an386-qemu", marks=pytest.mark.needs_qemu),
    pytest.param(("mps2-an385", "auto", "qemu"), id="an385-qemu", marks=pytest.mark.needs_qemu),
    pytest.param(("mps2-an386", "ziglang", "unicorn"), id="an386-zig-unicorn"),
    pytest.param(("mps2-an385", "auto", "unicorn"), id="an385-unicorn"),
]
INPUT = bytes(range(200, 200 + INPUT_BYTES))


@dataclass
class Rig:
    """A device that was just started with its factory flash, and a client on its line."""

    product: Product
    flash: Path
    link: Path
    emulator: str
    process: subprocess.Popen[bytes]
    client: Client

    def update(self, *images: tuple[int, bytes]) -> None:
        for image, data in images:
            assert self.client.upload(image, data) == {"off": len(data), "match": True}
        self.client.reset()

    def running(self) -> tuple[str, str | None]:
        slots = self.client.slots()
        weights = slots.get((1, 0))
        return slots[0, 0]["hash"].hex(), weights["hash"].hex() if weights else None


@pytest.fixture(params=BOARDS)
def rig(
    request: pytest.FixtureRequest, product_of: Callable[..., Product], tmp_path: Path
) -> Iterator[Rig]:
    board, toolchain, emulator = request.param
    product = product_of(board, toolchain)
    flash, link = tmp_path / "flash.bin", tmp_path / "line"
    with (
        device(product, flash, link, emulator=emulator) as process,
        client(link) as made,
    ):
        yield Rig(product, flash, link, emulator, process, made)


@pytest.fixture
def posix(product_of: Callable[..., Product], tmp_path: Path) -> Iterator[Rig]:
    """For what is the same C on every board."""
    product = product_of("posix")
    flash, link = tmp_path / "flash.bin", tmp_path / "line"
    with device(product, flash, link) as process, client(link) as made:
        yield Rig(product, flash, link, "auto", process, made)


def test_a_pair_is_taken_runs_and_is_replaced_by_weights_alone(rig: Rig) -> None:
    code, weights, retrained = rig.product.code, rig.product.weights(1), rig.product.weights(50)
    info = rig.client.request(READ, TINYML, 0)
    assert (info["class"], info["model"], info["abi"]) == (
        rig.product.target.name,
        False,
        bytes(32),
    )
    assert set(rig.client.slots()) == {(0, 0)}

    rig.update((0, code.data), (1, weights.data))

    assert rig.running() == (code.image_hash, weights.image_hash)
    assert set(rig.client.slots()) == {(0, 0), (1, 0)}
    info = rig.client.request(READ, TINYML, 0)
    assert info["model"] is True
    assert (info["abi"], info["in"], info["out"]) == (ABI, INPUT_BYTES, OUTPUT_BYTES)
    assert rig.client.infer(INPUT) == expected_output(INPUT, 1)

    rig.update((1, retrained.data))

    assert rig.running() == (code.image_hash, retrained.image_hash)
    assert rig.client.infer(INPUT) == expected_output(INPUT, 50)
    stats = rig.client.request(READ, TINYML, 4)
    assert (stats["runs"], stats["errors"], stats["boots"]) == (1, 0, 3)
    assert 100 < stats["stack"] < 4096


def test_a_device_that_is_killed_goes_on_with_its_flash(rig: Rig) -> None:
    code, weights = rig.product.code, rig.product.weights(7)
    rig.client.upload(0, code.data)
    rig.client.upload(1, weights.data)
    rig.process.send_signal(signal.SIGKILL)
    rig.process.wait()

    with (
        device(rig.product, rig.flash, rig.link, emulator=rig.emulator),
        client(_fresh(rig)) as again,
    ):
        assert again.slots()[0, 0]["hash"].hex() == code.image_hash
        assert again.infer(INPUT) == expected_output(INPUT, 7)


def test_a_request_right_after_a_reset_is_answered(rig: Rig) -> None:
    """What a client sends while the device resets is the next program's, on emulated boards."""
    for boots in range(2, 22):
        rig.client.reset()
        assert rig.client.request(READ, TINYML, 4)["boots"] == boots


def _fresh(rig: Rig) -> Path:
    """The link of the new process: the old one's terminal is gone."""
    old = rig.link.readlink()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if rig.link.readlink() != old or old.exists():
            break
        time.sleep(0.02)
    return rig.link


def test_an_upload_goes_on_where_it_stopped(posix: Rig) -> None:
    data = posix.product.code.data
    stopped = posix.client.upload(0, data, until=5000)["off"]
    assert 5000 <= stopped < len(data)
    with client(posix.link) as another:  # the line was cut, the device was not
        first = {"off": 0, "len": len(data), "sha": hashlib.sha256(data).digest(), "image": 0}
        answer = another.request(WRITE, IMAGE, 1, first | {"data": data[:64]})
        assert answer == {"off": stopped}
        assert another.upload(0, data) == {"off": len(data), "match": True}
        assert another.slots()[0, 1]["hash"].hex() == posix.product.code.image_hash


def test_another_file_starts_over(posix: Rig) -> None:
    posix.client.upload(0, posix.product.code.data, until=5000)
    weights = posix.product.weights().data
    other = {"off": 0, "len": len(weights), "sha": hashlib.sha256(weights).digest(), "image": 1}
    assert posix.client.request(WRITE, IMAGE, 1, other | {"data": weights[:64]}) == {"off": 64}


def test_a_chunk_for_another_place_is_answered_with_the_right_one(posix: Rig) -> None:
    data = posix.product.code.data
    stopped = posix.client.upload(0, data, until=3000)["off"]
    answer = posix.client.request(WRITE, IMAGE, 1, {"off": stopped + 8, "data": data[:8]})
    assert answer == {"off": stopped}


def test_an_upload_whose_bytes_changed_on_the_way_does_not_match(posix: Rig) -> None:
    data = posix.product.weights().data
    first = {"off": 0, "len": len(data), "sha": bytes(32), "image": 1, "data": data}
    assert posix.client.request(WRITE, IMAGE, 1, first) == {"off": len(data), "match": False}


@pytest.mark.parametrize(
    ("body", "rc"),
    [
        ({"off": 0, "len": 262145, "image": 0}, 30),
        ({"off": 0, "len": 65537, "image": 1}, 30),
        ({"off": 0, "len": 100, "image": 0}, 22),
        ({"off": 0, "image": 0}, 21),
        ({"off": 0, "len": 1000, "image": 2}, 14),
        ({"off": 0, "len": 1000, "image": 0, "data": bytes(64)}, 23),
        ({"off": 0, "len": 1000, "image": 0, "sha": b"short"}, 24),
        ({"off": 8}, 20),
        ({}, 20),
    ],
    ids=["code slot", "weights slot", "header", "no len", "image 2", "magic", "sha", "off", "none"],
)
def test_an_upload_that_cannot_be_right_is_refused(
    posix: Rig, body: dict[str, object], rc: int
) -> None:
    body = {"data": posix.product.code.data[:64]} | body
    answer = posix.client.request(WRITE, IMAGE, 1, body)
    assert answer == {"err": {"group": IMAGE, "rc": rc}}
    assert posix.client.request(WRITE, IMAGE, 1, body, version=0) == {"rc": rc}


def test_an_image_of_another_class_is_not_started(posix: Rig) -> None:
    stranger = pack_image(b"x" * 500, slot_bytes=65536, device_class="posix-2", abi_hash=bytes(32))
    before = posix.running()
    posix.update((0, stranger.data))
    assert posix.running() == before
    assert set(posix.client.slots()) == {(0, 0)}


def test_code_waits_for_its_weights(posix: Rig) -> None:
    before = posix.running()
    posix.update((0, posix.product.code.data))
    assert posix.running() == before
    assert posix.client.slots()[0, 1]["pending"] is False

    weights = posix.product.weights()
    posix.client.upload(1, weights.data)
    slots = posix.client.slots()
    assert slots[0, 1]["pending"] is True
    assert slots[1, 1]["pending"] is True
    posix.client.reset()
    assert posix.running() == (posix.product.code.image_hash, weights.image_hash)


def test_only_an_image_that_is_here_can_be_marked(posix: Rig) -> None:
    image_hash = posix.client.slots()[0, 0]["hash"]
    assert "images" in posix.client.request(WRITE, IMAGE, 0, {"hash": image_hash, "confirm": True})
    answer = posix.client.request(WRITE, IMAGE, 0, {"hash": bytes(32)})
    assert answer == {"err": {"group": IMAGE, "rc": 24}}


def test_erasing_a_secondary_forgets_it(posix: Rig) -> None:
    posix.client.upload(1, posix.product.weights().data)
    assert (1, 1) in posix.client.slots()
    assert posix.client.request(WRITE, IMAGE, 5, {"slot": 3}) == {}
    assert (1, 1) not in posix.client.slots()
    assert posix.client.request(WRITE, IMAGE, 5, {"slot": 0}) == {"err": {"group": IMAGE, "rc": 14}}


def test_a_device_without_a_model_says_so(posix: Rig) -> None:
    for op, command, body in ((WRITE, 1, {"off": 0, "data": b"x"}), (WRITE, 2, {}), (READ, 3, {})):
        assert posix.client.request(op, TINYML, command, body) == {"err": {"group": 64, "rc": 1}}
    assert posix.client.request(WRITE, TINYML, 2, {}, version=0) == {"rc": 1}


def test_inputs_out_of_order_or_too_long_are_refused(posix: Rig) -> None:
    posix.update((0, posix.product.code.data), (1, posix.product.weights().data))

    def refused(op: int, command: int, body: dict[str, object]) -> int:
        answer = posix.client.request(op, TINYML, command, body)
        return int(answer["err"]["rc"])

    assert refused(WRITE, 1, {"off": 3, "data": b"x"}) == 2
    assert refused(WRITE, 1, {"off": 0, "data": bytes(INPUT_BYTES + 1)}) == 3
    assert refused(WRITE, 2, {}) == 3  # no input yet
    assert refused(READ, 3, {"off": 0}) == 4  # no run yet
    posix.client.infer(INPUT)
    assert refused(READ, 3, {"off": OUTPUT_BYTES + 1}) == 2


def test_requests_whose_answers_were_lost_may_be_asked_again(posix: Rig) -> None:
    posix.update((0, posix.product.code.data), (1, posix.product.weights(3).data))
    ask = posix.client.request
    for body in ({"off": 0, "data": INPUT[:8]}, {"off": 8, "data": INPUT[8:]}):
        first, again = ask(WRITE, TINYML, 1, body), ask(WRITE, TINYML, 1, body)
        assert first == again
    assert ask(WRITE, TINYML, 2) == ask(WRITE, TINYML, 2)
    assert ask(READ, TINYML, 3, {"off": 0})["data"] == expected_output(INPUT, 3)
    assert ask(READ, TINYML, 4)["runs"] == 1


def test_weights_of_another_structure_leave_the_device_without_a_model(posix: Rig) -> None:
    """The image's ABI hash is right, the blob's own is not: the runtime's check is the last one."""
    blob = weights_blob(0)[:16] + bytes(32) + weights_blob(0)[48:]
    image = pack_image(blob, slot_bytes=65536, device_class="posix", abi_hash=ABI, kind="weights")
    posix.update((0, posix.product.code.data), (1, image.data))
    assert posix.running()[1] == image.image_hash
    assert posix.client.request(READ, TINYML, 0)["model"] is False


def test_unknown_commands_and_malformed_requests_are_answered(posix: Rig) -> None:
    assert posix.client.request(READ, 77, 0) == {"rc": 8}
    assert posix.client.request(READ, OS, 99) == {"rc": 8}
    assert posix.client.request(WRITE, OS, 0, {"d": 5}) == {"rc": 3}
    assert posix.client.request(WRITE, OS, 0, [1, 2]) == {"rc": 3}
    deep: object = []
    for _ in range(400):
        deep = [deep]
    assert posix.client.request(WRITE, OS, 0, {"d": "a", "x": deep}) == {"rc": 3}
    assert posix.client.request(WRITE, OS, 0, {"x": None, "d": "a", "y": 2.5}) == {"r": "a"}


def test_noise_on_the_line_does_not_stop_the_device(posix: Rig) -> None:
    chance = random.Random(3)
    posix.client.send(b"\x06\x09" + b"A" * 40000 + b"\n")
    posix.client.send(b"\x04\x14AAAA\n\x06\x09=\n\x06\x09====\n\x06\x09AAAA\n\x06\n\n")
    posix.client.send(chance.randbytes(3000) + b"\n")
    for length in (0, 1, 7, 8, 9):
        message = struct.pack(">BBHHBB", 10, 0, 0, 0, 0, 0)[:length].ljust(length, b"\xbf")
        posix.client.exchange(message, timeout_s=0.05)
    while posix.client.receive_line(0.1) is not None:
        pass
    assert posix.client.request(WRITE, OS, 0, {"d": "still here"}) == {"r": "still here"}


def test_a_long_echo_fills_the_buffer_that_the_device_names(posix: Rig) -> None:
    size = posix.client.request(READ, OS, 6)["buf_size"]
    assert size >= 1024
    text = "t" * (size - 4 - 8 - 20)
    assert posix.client.request(WRITE, OS, 0, {"d": text}) == {"r": text}


def test_smpmgr_works_unchanged(rig: Rig, tmp_path: Path) -> None:
    weights = rig.product.weights()
    image = tmp_path / "weights.img"
    image.write_bytes(weights.data)
    rig.client.upload(0, rig.product.code.data)

    def smpmgr(*arguments: str) -> str:
        program = Path(sys.executable).with_name("smpmgr")
        command = [str(program), "--port", str(rig.link), *arguments]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    assert "r='hello'" in smpmgr("os", "echo", "hello")
    assert "Upgrade complete" in smpmgr("upgrade", "--slot", "1", str(image))
    assert rig.running() == (rig.product.code.image_hash, weights.image_hash)
    listed = smpmgr("image", "state-read").replace("\n", "").replace(" ", "")
    assert rig.product.code.image_hash.upper() in listed


def test_a_second_device_on_the_same_flash_is_refused(rig: Rig, tmp_path: Path) -> None:
    link = tmp_path / "second"
    with device(rig.product, rig.flash, link, emulator=rig.emulator) as second:
        assert second.wait(timeout=20) == 1
    assert not link.exists()
