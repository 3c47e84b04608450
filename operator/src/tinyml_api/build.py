"""What the operator hands to a build Job, and what the Job hands back.

The operator writes a `BuildRequest` as JSON into a Secret; the builder (`tinyml_compiler.__main__`,
and `tinyml compile` on a laptop) reads it, and leaves a `BuildResult` as `result.json` beside the
artifacts and a `Termination` of at most 4096 bytes. Contract:
docs/decisions/001-spine-contracts.md.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

REQUEST_VERSION = "tinymlaas.dev/build/v1"
TERMINATION_LIMIT_BYTES = 4096

EXIT_DONE = 0
EXIT_NEEDS_USER = 1
EXIT_RETRY = 75  # EX_TEMPFAIL of sysexits.h

ARTIFACTS: tuple[str, ...] = (
    "code.img",
    "weights.img",
    "firmware.bin",
    "firmware.elf",
    "firmware.map",
    "weights.bin",
    "library.tar.gz",
    "report.json",
    "report.html",
    "result.json",
)


_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_HEX = re.compile(r"[0-9a-f]{64}")


class ModelFormat(StrEnum):
    AUTO = "Auto"
    TFLITE = "TFLite"
    KERAS = "Keras"


class QuantizationMode(StrEnum):
    AS_IS = "AsIs"
    POST_TRAINING = "PostTraining"


class Outcome(StrEnum):
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


class BuildReason(StrEnum):
    """Why a build failed. `tinyml_api.conditions` gives each a sentence and makes conditions of
    them.
    """

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


def canonical_json(value: Any) -> bytes:
    """Return the one JSON encoding of `value`: sorted keys, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def sha256_digest(data: bytes) -> str:
    """Return `sha256:` and the hex SHA-256 of `data`."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _check_count(name: str, count: Any) -> None:
    most = 2**30 if name.endswith("Bytes") else 2**53
    if type(count) is not int or not 0 <= count <= most:
        raise ValueError(f"{name} is {str(count)[:40]!r}, not a number of 0 to {most}")


@dataclass(frozen=True, slots=True)
class Input:
    """A file the build reads: `url` is http(s) (often presigned) or a local path; `sha256` is
    `sha256:<hex>`.
    """

    url: str
    sha256: str

    def to_dict(self) -> dict[str, Any]:
        return {"url": self.url, "sha256": self.sha256}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        return cls(url=raw["url"], sha256=raw["sha256"])


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits that the user sets, in bytes, of `flash_bytes.total` and `ram_bytes.total`; None: no
    limit of theirs.
    """

    flash_bytes: int | None = None
    ram_bytes: int | None = None

    def to_dict(self) -> dict[str, Any]:
        return {"flashBytes": self.flash_bytes, "ramBytes": self.ram_bytes}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        return cls(flash_bytes=raw.get("flashBytes"), ram_bytes=raw.get("ramBytes"))


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """One build: a model for one device class.

    `device_class_spec` is the content of DeviceClass.spec as the API gives it. `uploads` maps
    artifact names to presigned PUT URLs; empty for a local build, whose artifacts stay in the
    output folder. `compiler` and `toolchain` (`ziglang-0.17.1`, `arm-none-eabi-gcc-12.2.1`, …) pin
    what makes the bytes; the builder refuses a toolchain that it does not have.
    """

    model: Input
    device_class: str
    device_class_spec: Mapping[str, Any]
    compiler: str
    toolchain: str
    format: ModelFormat = ModelFormat.AUTO
    quantization: QuantizationMode = QuantizationMode.AS_IS
    calibration: Input | None = None
    calibration_samples: int | None = None
    budget: Budget = field(default_factory=Budget)
    uploads: Mapping[str, str] = field(default_factory=dict)

    def canonical(self) -> dict[str, Any]:
        """Return what decides the bytes of the result: everything but URLs and their lifetimes."""
        return {
            "version": REQUEST_VERSION,
            "model": self.model.sha256,
            "format": self.format.value,
            "quantization": self.quantization.value,
            "calibration": self.calibration.sha256 if self.calibration else None,
            "calibrationSamples": self.calibration_samples,
            "deviceClass": self.device_class,
            "deviceClassSpec": dict(self.device_class_spec),
            "compiler": self.compiler,
            "toolchain": self.toolchain,
            "budget": self.budget.to_dict(),
        }

    def digest(self) -> str:
        """Return the hex SHA-256 that names this build: the same request never builds twice in a
        namespace.
        """
        return hashlib.sha256(canonical_json(self.canonical())).hexdigest()

    def to_json(self) -> bytes:
        return canonical_json(
            {
                "version": REQUEST_VERSION,
                "model": self.model.to_dict(),
                "format": self.format.value,
                "quantization": self.quantization.value,
                "calibration": self.calibration.to_dict() if self.calibration else None,
                "calibrationSamples": self.calibration_samples,
                "deviceClass": self.device_class,
                "deviceClassSpec": dict(self.device_class_spec),
                "compiler": self.compiler,
                "toolchain": self.toolchain,
                "budget": self.budget.to_dict(),
                "uploads": dict(self.uploads),
            }
        )

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Parse a request. Raises KeyError, TypeError or ValueError on anything that is not one."""
        if raw.get("version") != REQUEST_VERSION:
            raise ValueError(
                f"request version is {raw.get('version')!r}, this builder reads {REQUEST_VERSION!r}"
            )
        return cls(
            model=Input.from_dict(raw["model"]),
            format=ModelFormat(raw["format"]),
            quantization=QuantizationMode(raw["quantization"]),
            calibration=Input.from_dict(raw["calibration"]) if raw.get("calibration") else None,
            calibration_samples=raw.get("calibrationSamples"),
            device_class=raw["deviceClass"],
            device_class_spec=raw["deviceClassSpec"],
            compiler=raw["compiler"],
            toolchain=raw["toolchain"],
            budget=Budget.from_dict(raw.get("budget") or {}),
            uploads=raw.get("uploads") or {},
        )


@dataclass(frozen=True, slots=True)
class Image:
    """One MCUboot image: file digest (`sha256:<hex>`), image hash (hex of its SHA-256 TLV), size in
    bytes.
    """

    digest: str
    image_hash: str
    size_bytes: int

    def to_dict(self) -> dict[str, Any]:
        return {"digest": self.digest, "imageHash": self.image_hash, "sizeBytes": self.size_bytes}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Parse. Raises KeyError, TypeError or ValueError on anything that is not an image."""
        image = cls(raw["digest"], raw["imageHash"], raw["sizeBytes"])
        if not (_DIGEST.fullmatch(image.digest) and _HEX.fullmatch(image.image_hash)):
            raise ValueError(f"digest {image.digest[:80]!r} or imageHash is not 64 hex digits")
        _check_count("sizeBytes", image.size_bytes)
        return image


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What a finished build made. `summary` has whole numbers only: flashBytes, ramBytes, macs,
    instructionsPerInference (or absent), vectors, mismatches. `code` and `weights` are None for a
    class without a port."""

    request_digest: str
    # Name → sha256 digest of the file: all but result.json, and but reports that an earlier attempt
    # of the same build left in the store (they hold times, so they are not these bytes).
    artifacts: Mapping[str, str]
    code: Image | None
    weights: Image | None
    summary: Mapping[str, int]

    def to_json(self) -> bytes:
        return canonical_json(
            {
                "version": REQUEST_VERSION,
                "requestDigest": self.request_digest,
                "artifacts": dict(self.artifacts),
                "code": self.code.to_dict() if self.code else None,
                "weights": self.weights.to_dict() if self.weights else None,
                "summary": dict(self.summary),
            }
        )

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Parse. Raises KeyError, TypeError or ValueError on anything that is not a result."""
        result = cls(
            request_digest=raw["requestDigest"],
            artifacts=dict(raw["artifacts"]),
            code=Image.from_dict(raw["code"]) if raw.get("code") else None,
            weights=Image.from_dict(raw["weights"]) if raw.get("weights") else None,
            summary=dict(raw["summary"]),
        )
        if not isinstance(raw["summary"], Mapping) or not isinstance(raw["artifacts"], Mapping):
            raise TypeError("summary and artifacts are not both JSON objects")
        for name, count in result.summary.items():
            if count is not None:
                _check_count(name, count)
        return result


@dataclass(frozen=True, slots=True)
class Termination:
    """The container's last word, at most 4096 bytes: the outcome and, if it failed, reason and
    sentence.
    """

    outcome: Outcome
    reason: str = ""
    message: str = ""

    def to_json(self) -> bytes:
        """Encode, with the message cut so that the whole fits TERMINATION_LIMIT_BYTES."""
        message = self.message
        while True:
            data = canonical_json(
                {"outcome": self.outcome.value, "reason": self.reason, "message": message}
            )
            if len(data) <= TERMINATION_LIMIT_BYTES:
                return data
            message = message[: len(message) * 3 // 4] + "…"

    @classmethod
    def from_json(cls, data: bytes | str) -> Self:
        """Parse. Raises ValueError on anything that is not a termination message."""
        try:
            raw = json.loads(data)
        except RecursionError as error:
            raise ValueError("termination message nests too deep") from error
        if not isinstance(raw, dict):
            raise ValueError("termination message is not a JSON object")
        return cls(
            outcome=Outcome(str(raw.get("outcome"))),
            reason=str(raw.get("reason", "")),
            message=str(raw.get("message", "")),
        )
