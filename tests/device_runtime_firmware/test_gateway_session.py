"""The gateway's own client on a real device: what both sides say must be what both sides mean."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tinyml_gateway.device import CODE, PRIMARY, SECONDARY, WEIGHTS, Device

from tests.device_runtime_firmware.devices import (
    ABI,
    INPUT_BYTES,
    Client,
    Product,
    device,
    expected_output,
)


async def test_the_gateway_updates_a_device_and_asks_it(
    product_of: Callable[..., Product], tmp_path: Path
) -> None:
    product = product_of("posix")
    weights = product.weights(9)
    link = tmp_path / "line"
    data = bytes(range(INPUT_BYTES))
    with device(product, tmp_path / "flash.bin", link):
        Client(link).close()  # waits for the line
        async with Device(f"serial://{link}") as session:
            info = await session.info()
            assert (info.device_class, info.hwid, info.has_model) == ("posix", "unit-7", False)
            assert await session.upload(CODE, product.code.data) == len(product.code.data)
            assert await session.upload(CODE, product.code.data) == 0  # it is there already
            await session.upload(WEIGHTS, weights.data)
            assert (await session.images())[CODE, SECONDARY] == product.code.image_hash
            await session.reset()
        async with Device(f"serial://{link}") as session:
            assert await session.images() == {
                (CODE, PRIMARY): product.code.image_hash,
                (WEIGHTS, PRIMARY): weights.image_hash,
            }
            assert (await session.info()).abi == ABI.hex()
            answer = await session.infer(data)
            assert (answer.outputs, answer.hz) == (expected_output(data, 9), 1_000_000_000)
            assert (await session.stats()).runs == 1
