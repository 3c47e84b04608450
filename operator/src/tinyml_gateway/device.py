"""One device as a Python object: who it is, which images it has, uploads, reset and inference, over
SMP.

Used by `visit` (the agent's sessions), `infer` (the command line) and tests. Every request has a
timeout and is asked again when its answer is lost; whatever goes wrong is one of `errors`'
DeviceErrors, with the address in its message. Nothing here decides what a device should run: that
is `rollout`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

from cbor2 import CBORDecodeError
from smp.error import ErrorV1, ErrorV2
from smp.exceptions import SMPException
from smp.image_management import IMG_MGMT_ERR
from smpclient import SMPClient
from smpclient.exceptions import SMPClientException
from smpclient.generics import SMPRequest, TEr1, TEr2, TRep
from smpclient.requests.image_management import ImageStatesRead, ImageUploadWrite
from smpclient.requests.os_management import MCUMgrParametersRead, ResetWrite
from smpclient.transport import SMPTransportDisconnected

from tinyml_gateway import smp_group
from tinyml_gateway.errors import (
    DeviceError,
    DeviceOfflineError,
    DeviceProtocolError,
    DeviceRefusedError,
)
from tinyml_gateway.transport import open_transport, parse_address

IMAGE_GROUP: Final = 1
CODE: Final = 0  # image numbers
WEIGHTS: Final = 1
PRIMARY: Final = 0  # slots
SECONDARY: Final = 1

INPUT_OVERHEAD_BYTES: Final = 32  # SMP header, map, keys and offset of an input request
UPLOAD_STALL_LIMIT: Final = 8  # answers in a row that name no new offset
BUFFER_LIMITS: Final = (64, 65535)  # what a device may say of its buffer, in bytes


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds to wait, and how often to ask again. `erase_s`: the first chunk may erase a whole
    slot.
    """

    connect_s: float = 3.0
    request_s: float = 2.5
    erase_s: float = 30.0
    run_s: float = 30.0
    attempts: int = 3


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """Who a device says it is. `abi` in hex; `input_bytes`, `output_bytes`: all tensors of a kind
    concatenated.
    """

    device_class: str
    hwid: str
    abi: str
    has_model: bool
    input_bytes: int
    output_bytes: int
    arena_bytes: int


@dataclass(frozen=True, slots=True)
class DeviceStats:
    runs: int
    errors: int
    boots: int
    stack_bytes: int


@dataclass(frozen=True, slots=True)
class Inference:
    """One run. `ticks` of a clock of `hz` per second; `hz` is 0 where the board has no clock."""

    outputs: bytes
    ticks: int
    hz: int


Slots = Mapping[tuple[int, int], str]  # (image, slot) → image hash in hex


class Device:
    """A connection to the device at `address`; use it as an async context manager, one task at a
    time.

    Raises `AddressError` if the address cannot be read.
    """

    def __init__(self, address: str, *, timeouts: Timeouts = Timeouts()) -> None:
        parsed = parse_address(address)
        self.address = address
        self._timeouts = timeouts
        self._target = parsed.target
        self._transport = open_transport(parsed)
        self._client = SMPClient(self._transport, parsed.target, timeouts.request_s)

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def connect(self) -> None:
        """Open the line and learn the size of the device's buffer."""
        try:
            try:
                await self._transport.connect(self._target, self._timeouts.connect_s)
            except TimeoutError as error:
                raise DeviceOfflineError(
                    f"no connection to {self.address} within {self._timeouts.connect_s:g} s"
                ) from error
            except OSError as error:
                why = os.strerror(error.errno) if error.errno else str(error)
                raise DeviceOfflineError(f"{self.address} cannot be opened: {why}") from error
            try:
                parameters = await self.request(MCUMgrParametersRead())
            except DeviceRefusedError:
                return  # it works without: messages stay small
            lowest, highest = BUFFER_LIMITS
            if not lowest <= parameters.buf_size <= highest:
                raise DeviceProtocolError(
                    f"{self.address} says its buffer has {parameters.buf_size} bytes: "
                    f"{lowest} to {highest} can be used"
                )
            self._transport.initialize(parameters.buf_size)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        await self._transport.disconnect()

    async def request(
        self, request: SMPRequest[TRep, TEr1, TEr2], *, timeout_s: float | None = None
    ) -> TRep:
        """Return the answer to `request`. A lost answer is asked for again; all our requests may be
        repeated.
        """
        wait_s = timeout_s if timeout_s is not None else self._timeouts.request_s
        for attempt in range(1, self._timeouts.attempts + 1):
            try:
                response: Any = await self._guard(self._client.request(request, wait_s))
            except TimeoutError as error:
                if attempt == self._timeouts.attempts:
                    raise DeviceOfflineError(
                        f"no answer from {self.address} to {attempt} requests of {wait_s:g} s"
                    ) from error
                continue
            if isinstance(response, ErrorV1 | ErrorV2):
                raise self._refusal(response, type(request).__name__)
            answer: TRep = response
            return answer
        raise AssertionError("attempts is at least 1")

    async def info(self) -> DeviceInfo:
        answer = await self.request(smp_group.InfoRead())
        return DeviceInfo(
            device_class=answer.device_class,
            hwid=answer.hwid,
            abi=answer.abi.hex(),
            has_model=answer.model,
            input_bytes=answer.input_bytes,
            output_bytes=answer.output_bytes,
            arena_bytes=answer.arena,
        )

    async def images(self) -> Slots:
        """Return the hash of each image on the device: slot 0 runs, slot 1 waits for a reset."""
        answer = await self.request(ImageStatesRead())
        return {
            (state.image or CODE, state.slot): bytes(state.hash).hex()
            for state in answer.images
            if state.hash is not None
        }

    async def stats(self) -> DeviceStats:
        answer = await self.request(smp_group.StatsRead())
        return DeviceStats(answer.runs, answer.errors, answer.boots, answer.stack)

    async def upload(
        self,
        image: int,
        data: bytes,
        *,
        resume: bool = True,
        progress: Callable[[int], None] | None = None,
    ) -> int:
        """Bring `data` into the secondary slot of `image`; return the bytes that had to be sent.

        With `resume` the device goes on where an upload of the same bytes stopped; without, it
        starts anew. `progress` is called with each offset that the device has confirmed.
        """
        sha = hashlib.sha256(data).digest() if resume else None
        offset = sent = restarts = stalled = 0
        while True:
            head = {"image": image, "len": len(data), "sha": sha} if offset == 0 else {}
            chunk = self._chunk(data, offset, head)
            wait_s = self._timeouts.erase_s if offset == 0 else None
            try:
                answer = await self.request(chunk, timeout_s=wait_s)
            except DeviceRefusedError as error:
                restarts += 1
                lost = (error.group, error.rc) == (IMAGE_GROUP, IMG_MGMT_ERR.INVALID_OFFSET)
                if not lost or offset == 0 or restarts > self._timeouts.attempts:
                    raise
                offset = 0  # it was reset in between and knows of no upload
                continue
            if answer.off is None:
                raise DeviceRefusedError(
                    f"{self.address} refused ImageUploadWrite: rc {answer.rc}", rc=answer.rc or -1
                )
            if answer.off == len(data) and answer.match is False:
                restarts += 1
                if restarts > self._timeouts.attempts:
                    raise DeviceProtocolError(
                        f"{self.address} has received image {image} {restarts} times, and never "
                        f"the {len(data)} bytes that were sent: check the line and the flash"
                    )
                offset = 0
                continue
            stalled = 0 if answer.off > offset else stalled + 1
            if answer.off > len(data) or stalled >= UPLOAD_STALL_LIMIT:
                raise DeviceProtocolError(
                    f"{self.address} answers an upload of {len(data)} bytes to image {image} "
                    f"with offset {answer.off} after {offset}"
                )
            # An answer beyond what was sent is where an older upload had stopped.
            if answer.off <= offset + len(chunk.data):
                sent += max(0, answer.off - offset)
            offset = answer.off
            if progress is not None:
                progress(offset)
            if offset == len(data):
                return sent

    def _chunk(self, data: bytes, offset: int, head: dict[str, Any]) -> ImageUploadWrite:
        """Return the request for the longest chunk at `offset` that the device's buffer takes."""
        empty = ImageUploadWrite(off=offset, data=b"", **head)
        _, room = self._client.get_max_cbor_and_data_size(empty)
        if room <= 0:
            raise DeviceProtocolError(
                f"{self.address} takes messages of {self._transport.max_unencoded_size} bytes: "
                f"an upload needs {len(empty.BYTES) + 1} at least"
            )
        return ImageUploadWrite(off=offset, data=data[offset : offset + room], **head)

    async def reset(self) -> None:
        """Ask for a reset. A device that resets before it answers has done what it was asked."""
        with contextlib.suppress(TimeoutError, DeviceOfflineError):
            await self._guard(self._client.request(ResetWrite(), self._timeouts.request_s))

    async def infer(self, inputs: bytes) -> Inference:
        """Run the model on `inputs` (all inputs concatenated) and return its outputs."""
        step = max(1, self._transport.max_unencoded_size - INPUT_OVERHEAD_BYTES)
        offset = 0
        while offset < len(inputs):
            chunk = inputs[offset : offset + step]
            answer = await self.request(smp_group.InputWrite(off=offset, data=chunk))
            if answer.off != offset + len(chunk):
                raise DeviceProtocolError(
                    f"{self.address} expects input byte {answer.off} after {offset + len(chunk)}"
                )
            offset = answer.off
        run = await self.request(smp_group.RunWrite(), timeout_s=self._timeouts.run_s)
        outputs = bytearray()
        while True:
            part = await self.request(smp_group.OutputRead(off=len(outputs)))
            outputs += part.data
            if len(outputs) >= part.length:
                return Inference(bytes(outputs), run.ticks, run.hz)
            if not part.data or part.off != len(outputs) - len(part.data):
                raise DeviceProtocolError(
                    f"{self.address} gave output bytes {part.off} to {part.off + len(part.data)} "
                    f"when asked for {len(outputs) - len(part.data)} of {part.length}"
                )

    async def _guard(self, awaitable: Any) -> Any:
        """Await, and turn what the libraries raise into our errors; TimeoutError passes."""
        try:
            return await awaitable
        except (TimeoutError, DeviceError):
            raise
        except (SMPTransportDisconnected, OSError) as error:
            raise DeviceOfflineError(f"lost {self.address}: {error}") from error
        except (SMPClientException, SMPException, CBORDecodeError, ValueError, TypeError) as error:
            what = " ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])
            raise DeviceProtocolError(
                f"{self.address} gave an answer that is not SMP: {what}"
            ) from error

    def _refusal(self, response: ErrorV1 | ErrorV2[Any], request: str) -> DeviceRefusedError:
        """Version 2 errors name their group; a version 1 error is a code of SMP itself."""
        if isinstance(response, ErrorV2):
            group, rc, code = int(response.err.group), int(response.err.rc), response.err.rc
            text = f"{_code_name(code)} (group {group}, rc {rc})"
        else:
            group, rc = -1, int(response.rc)
            text = f"{_code_name(response.rc)} (rc {rc})"
        return DeviceRefusedError(f"{self.address} refused {request}: {text}", group=group, rc=rc)


def _code_name(code: object) -> str:
    if isinstance(code, IMG_MGMT_ERR) and code is IMG_MGMT_ERR.INVALID_IMAGE_TOO_LARGE:
        return "the image is larger than its slot"
    name = getattr(code, "name", str(code))
    return str(name).lower().replace("_", " ")
