"""Ask a device to classify: what `tinyml infer`, the demo and tests use."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

from tinyml_gateway.device import Device, Inference, Timeouts
from tinyml_gateway.errors import DeviceRefusedError

PORT_WAIT_S = 15.0  # the agent may be talking to the device: wait for our turn


def patient() -> Timeouts:
    """Timeouts of a person who waits: longer than the agent's for the port, as it may be in use."""
    return Timeouts(connect_s=PORT_WAIT_S)


async def classify(address: str, inputs: bytes) -> tuple[bytes, int, int]:
    """Run the model of the device at `address` on `inputs`; return outputs, ticks and the clock's
    Hz.

    `inputs` is all input tensors concatenated, in the model's own types (int8 models: int8). Raises
    DeviceErrors;
    `DeviceRefusedError` where the sizes do not fit or the device has no model.
    """
    async for result in classify_all(address, [inputs]):
        return result.outputs, result.ticks, result.hz
    raise AssertionError("one input gives one result")


async def classify_all(address: str, inputs: Iterable[bytes]) -> AsyncIterator[Inference]:
    """Run the model on each of `inputs` over one connection, in order."""
    async with Device(address, timeouts=patient()) as device:
        info = await device.info()
        if not info.has_model:
            raise DeviceRefusedError(f"{address} has no model: it runs its factory image")
        for number, one in enumerate(inputs):
            if len(one) != info.input_bytes:
                raise DeviceRefusedError(
                    f"input {number} has {len(one)} bytes, the model on {address} takes "
                    f"{info.input_bytes}"
                )
            yield await device.infer(one)
