"""Every condition type and every reason, each with its sentence: the one home of both.

Conditions and events of all kinds use these words. A builder's `BuildReason` is a `Reason` of the
same spelling.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType

from tinyml_api.codec import Record

MESSAGE_LIMIT = 4096


class ConditionType(StrEnum):
    MODEL_VALID = "ModelValid"
    COMPILED = "Compiled"
    DEVICES_CLAIMED = "DevicesClaimed"
    ROLLED_OUT = "RolledOut"
    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"


class ConditionStatus(StrEnum):
    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Reason(StrEnum):
    """Why a condition is what it is. `REASONS` has the sentences."""

    # What a build says: the same words as tinyml_api.build.BuildReason.
    SOURCE_UNREACHABLE = "SourceUnreachable"
    DIGEST_MISMATCH = "DigestMismatch"
    MODEL_INVALID = "ModelInvalid"
    MODEL_NOT_QUANTIZED = "ModelNotQuantized"
    CALIBRATION_INVALID = "CalibrationInvalid"
    UNSUPPORTED_OPERATOR = "UnsupportedOperator"
    CODE_TOO_LARGE = "CodeTooLarge"
    WEIGHTS_TOO_LARGE = "WeightsTooLarge"
    ARENA_TOO_LARGE = "ArenaTooLarge"
    BUDGET_EXCEEDED = "BudgetExceeded"
    TOOLCHAIN_MISSING = "ToolchainMissing"
    COMPILE_FAILED = "CompileFailed"
    VERIFICATION_FAILED = "VerificationFailed"
    STORAGE_UNREACHABLE = "StorageUnreachable"
    REQUEST_INVALID = "RequestInvalid"
    INTERNAL_ERROR = "InternalError"

    # What the operator says of a build.
    SOURCE_NOT_ALLOWED = "SourceNotAllowed"
    BUILD_JOB_FAILED = "BuildJobFailed"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    QUEUED = "Queued"
    BUILDING = "Building"
    RETRYING = "Retrying"
    BUILT = "Built"
    COMPILED = "Compiled"
    MODEL_ACCEPTED = "ModelAccepted"

    # What it says of a TinyModel and its revisions.
    DEVICE_CLASS_MISSING = "DeviceClassMissing"
    TOO_MANY_DEVICE_CLASSES = "TooManyDeviceClasses"
    REVISION_CREATED = "RevisionCreated"
    REVISION_NAME_TAKEN = "RevisionNameTaken"
    RELEASED = "Released"
    SUSPENDED = "Suspended"
    BUILD_ONLY = "BuildOnly"
    NO_DEVICES_SELECTED = "NoDevicesSelected"
    DEVICES_CLAIMED = "DevicesClaimed"
    DEVICES_CONTESTED = "DevicesContested"
    NO_FIRMWARE = "NoFirmware"
    ROLLING_OUT = "RollingOut"
    DEVICES_OFFLINE = "DevicesOffline"
    DEVICES_FAILED = "DevicesFailed"
    ROLLED_OUT = "RolledOut"

    # What it says of any object.
    WRITE_REFUSED = "WriteRefused"

    # What it says of a gateway.
    AGENT_NOT_SEEN = "AgentNotSeen"
    AGENT_SILENT = "AgentSilent"
    AGENT_CONNECTED = "AgentConnected"


REASONS: Mapping[Reason, str] = MappingProxyType(
    {
        Reason.SOURCE_UNREACHABLE: "The model or the calibration data cannot be read where "
        "spec.source.uri says; it is tried again.",
        Reason.DIGEST_MISMATCH: "The file's SHA-256 is not the one that the manifest names.",
        Reason.MODEL_INVALID: "The file is not a model that can be read.",
        Reason.MODEL_NOT_QUANTIZED: "The model has floats where int8 is needed: quantize it.",
        Reason.CALIBRATION_INVALID: "The calibration data does not fit the model.",
        Reason.UNSUPPORTED_OPERATOR: "The model has operators that the compiler does not know.",
        Reason.CODE_TOO_LARGE: "The code image does not fit the class's code slot.",
        Reason.WEIGHTS_TOO_LARGE: "The weights image does not fit the class's weights slot.",
        Reason.ARENA_TOO_LARGE: "The inference needs more RAM than the class has.",
        Reason.BUDGET_EXCEEDED: "The result is above a limit of spec.budget.",
        Reason.TOOLCHAIN_MISSING: "The builder does not have the C toolchain of the request.",
        Reason.COMPILE_FAILED: "The C compiler or the linker refused the generated code.",
        Reason.VERIFICATION_FAILED: "The compiled model's outputs differ from the oracle's.",
        Reason.STORAGE_UNREACHABLE: "The artifact store does not answer; it is tried again.",
        Reason.REQUEST_INVALID: "The builder cannot read the request: versions do not match.",
        Reason.INTERNAL_ERROR: "The builder met something that it does not know; see its log.",
        Reason.SOURCE_NOT_ALLOWED: "The operator's settings do not allow the host or the "
        "bucket of the URI.",
        Reason.BUILD_JOB_FAILED: "The Job ended without a word from the builder too many times.",
        Reason.DEADLINE_EXCEEDED: "The Job ran longer than a build may.",
        Reason.QUEUED: "The Job is there, its pod has not started.",
        Reason.BUILDING: "The build runs.",
        Reason.RETRYING: "An attempt failed in a way that can pass; another follows.",
        Reason.BUILT: "The artifacts are in the store.",
        Reason.COMPILED: "All builds are done.",
        Reason.MODEL_ACCEPTED: "The model could be read.",
        Reason.DEVICE_CLASS_MISSING: "A DeviceClass that is named does not exist: apply it.",
        Reason.TOO_MANY_DEVICE_CLASSES: "More device classes are selected than one TinyModel can "
        "have builds for.",
        Reason.REVISION_CREATED: "The spec asks for builds that no revision has yet.",
        Reason.REVISION_NAME_TAKEN: "A revision of a deleted TinyModel still has the name.",
        Reason.RELEASED: "The revision's images are there for its devices.",
        Reason.SUSPENDED: "spec.suspend is true: nothing new is started.",
        Reason.BUILD_ONLY: "There is no spec.deploy: the builds are all there is to do.",
        Reason.NO_DEVICES_SELECTED: "No device of any gateway is selected.",
        Reason.DEVICES_CLAIMED: "Every selected device belongs to this TinyModel.",
        Reason.DEVICES_CONTESTED: "An older TinyModel owns some of the selected devices.",
        Reason.NO_FIRMWARE: "A selected device's class has no firmware port.",
        Reason.ROLLING_OUT: "Devices are being updated.",
        Reason.DEVICES_OFFLINE: "Some devices do not answer; they are waited for.",
        Reason.DEVICES_FAILED: "Some devices refused or failed the update.",
        Reason.ROLLED_OUT: "Every claimed device reports this pair of images.",
        Reason.WRITE_REFUSED: "The Kubernetes API refuses an object that the operator has to "
        "write; it is tried again.",
        Reason.AGENT_NOT_SEEN: "No agent of this gateway has ever reported.",
        Reason.AGENT_SILENT: "The agent has stopped renewing its Lease.",
        Reason.AGENT_CONNECTED: "The agent reports.",
    }
)


@dataclass(frozen=True, slots=True)
class Condition(Record):
    """One entry of `status.conditions`. Times are RFC 3339 in UTC."""

    type: str
    status: str
    reason: str
    message: str
    last_transition_time: str
    observed_generation: int | None = None


def rfc3339(time: datetime) -> str:
    """Return `time` as Kubernetes writes it: UTC, whole seconds, `Z`."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str) -> datetime:
    """Parse what Kubernetes writes. Raises ValueError."""
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(f"{text!r} names no time zone")
    return time


def find(conditions: Iterable[Condition], kind: ConditionType) -> Condition | None:
    """Return the condition of this type, or None."""
    return next((c for c in conditions if c.type == kind), None)


def is_true(conditions: Iterable[Condition], kind: ConditionType) -> bool:
    found = find(conditions, kind)
    return found is not None and found.status == ConditionStatus.TRUE


@dataclass(frozen=True, slots=True)
class Finding:
    """What a planner found out about one condition, before it has a time."""

    type: ConditionType
    status: ConditionStatus
    reason: Reason
    message: str = ""


def message_of(text: str) -> str:
    """Return `text` as a condition can hold it: within the limit, and encodable as UTF-8."""
    return text.encode(errors="replace").decode()[:MESSAGE_LIMIT]


def settle(
    before: Iterable[Condition], findings: Iterable[Finding], *, generation: int, now: datetime
) -> tuple[Condition, ...]:
    """Return the conditions of the findings, in their order.

    `last_transition_time` moves only where the status flips. A finding without a message takes
    its reason's sentence. Types that are not found any more are gone.
    """
    known = {c.type: c for c in before}
    out = []
    for f in findings:
        old = known.get(f.type)
        message = message_of(f.message or REASONS[f.reason])
        new = Condition(f.type.value, f.status.value, f.reason.value, message, "", generation)
        kept = old is not None and old.status == new.status
        time = old.last_transition_time if old is not None and kept else rfc3339(now)
        out.append(replace(new, last_transition_time=time))
    return tuple(out)
