"""SMP management group 64, `tinyml`: what our firmware answers beyond the standard groups.

Used by `device`. The table of decision 001 ("SMP on the device") is the contract; the firmware has
the other half.
"""

from __future__ import annotations

from enum import IntEnum, unique

from pydantic import ConfigDict, Field
from smp import error, message

GROUP_ID = 64


@unique
class TinymlRc(IntEnum):
    """Error codes of the group."""

    NO_MODEL = 1
    BAD_OFFSET = 2
    BAD_LENGTH = 3
    INVOKE_FAILED = 4


class TinymlErrorV1(error.ErrorV1):
    _GROUP_ID = GROUP_ID


class TinymlErrorV2(error.ErrorV2[TinymlRc]):
    _GROUP_ID = GROUP_ID


class _Group:
    _ErrorV1 = TinymlErrorV1
    _ErrorV2 = TinymlErrorV2


class InfoResponse(message.ReadResponse):
    """Who the device is. `input_bytes` and `output_bytes`: all tensors of a kind concatenated."""

    # The firmware may learn to say more: what we do not know, we pass over.
    model_config = ConfigDict(extra="ignore", frozen=True)
    _GROUP_ID = GROUP_ID
    _COMMAND_ID = 0

    device_class: str = Field(alias="class", max_length=253)
    hwid: str = Field(max_length=253)
    abi: bytes
    model: bool
    input_bytes: int = Field(alias="in", ge=0)
    output_bytes: int = Field(alias="out", ge=0)
    arena: int = Field(ge=0)


class InfoRead(_Group, message.ReadRequest):
    _GROUP_ID = GROUP_ID
    _COMMAND_ID = 0
    _Response = InfoResponse


class InputResponse(message.WriteResponse):
    """`off` is the next byte that the device expects."""

    _GROUP_ID = GROUP_ID
    _COMMAND_ID = 1

    off: int = Field(ge=0)


class InputWrite(_Group, message.WriteRequest):
    _GROUP_ID = GROUP_ID
    _COMMAND_ID = 1
    _Response = InputResponse

    off: int
    data: bytes


class RunResponse(message.WriteResponse):
    """`ticks` of the board's clock for one inference; `hz` its frequency, 0 where the board has
    none.
    """

    _GROUP_ID = GROUP_ID
    _COMMAND_ID = 2

    ticks: int = Field(ge=0)
    hz: int = Field(ge=0)


class RunWrite(_Group, message.WriteRequest):
    _GROUP_ID = GROUP_ID
    _COMMAND_ID = 2
    _Response = RunResponse


class OutputResponse(message.ReadResponse):
    """`data` from `off` on; `length` is that of the whole output."""

    _GROUP_ID = GROUP_ID
    _COMMAND_ID = 3

    off: int = Field(ge=0)
    data: bytes
    length: int = Field(alias="len", ge=0)


class OutputRead(_Group, message.ReadRequest):
    _GROUP_ID = GROUP_ID
    _COMMAND_ID = 3
    _Response = OutputResponse

    off: int


class StatsResponse(message.ReadResponse):
    """Counters since power-up; `stack` is the high-water mark in bytes."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    _GROUP_ID = GROUP_ID
    _COMMAND_ID = 4

    runs: int = Field(ge=0)
    errors: int = Field(ge=0)
    boots: int = Field(ge=0)
    stack: int = Field(ge=0)


class StatsRead(_Group, message.ReadRequest):
    _GROUP_ID = GROUP_ID
    _COMMAND_ID = 4
    _Response = StatsResponse
