"""What can go wrong in a build, as one tree.

The Job entry turns `reason` into a condition and `retryable` into an exit status.

CompilerError
├── ModelInvalidError            the file is not a well-formed model
├── ModelNotQuantizedError       a float model, where int8 is needed
├── UnsupportedOperatorError     every operator, type or attribute that the compiler does not know
├── CalibrationInvalidError      calibration data that the model cannot take
├── TooLargeError
│   ├── ArenaTooLargeError       RAM of the device class
│   ├── CodeTooLargeError        code slot
│   ├── WeightsTooLargeError     weights slot
│   └── BudgetExceededError      the user's own limits
├── TargetInvalidError           a device class that does not describe a device
├── DigestMismatchError          a file is not the one that was asked for
├── ToolchainMissingError        no compiler for the CPU on this machine
├── CompileFailedError           a tool refused what we generated: our fault
├── VerificationFailedError      the C computes something else than the oracle: our fault
└── UnreachableError             can pass: retried
    ├── SourceUnreachableError
    └── StorageUnreachableError
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar


class CompilerError(Exception):
    """A build that cannot go on. The text says what was found, the limit and the next step."""

    reason: ClassVar[str] = "InternalError"
    retryable: ClassVar[bool] = False


class ModelInvalidError(CompilerError):
    reason = "ModelInvalid"


class ModelNotQuantizedError(CompilerError):
    reason = "ModelNotQuantized"


class UnsupportedOperatorError(CompilerError):
    """All of a model's unsupported parts in one message; `problems` has them one by one.

    `advice` closes the message: what would be supported.
    """

    reason = "UnsupportedOperator"

    def __init__(self, problems: Iterable[str], advice: str = "") -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        head = f"{count} part{'s' if count != 1 else ''} of the model not supported: "
        super().__init__(head + "; ".join(self.problems) + (f" ({advice})" if advice else ""))


class CalibrationInvalidError(CompilerError):
    reason = "CalibrationInvalid"


class TooLargeError(CompilerError):
    """Something needs more bytes than there are."""


class ArenaTooLargeError(TooLargeError):
    reason = "ArenaTooLarge"


class CodeTooLargeError(TooLargeError):
    reason = "CodeTooLarge"


class WeightsTooLargeError(TooLargeError):
    reason = "WeightsTooLarge"


class BudgetExceededError(TooLargeError):
    reason = "BudgetExceeded"


class TargetInvalidError(CompilerError):
    reason = "RequestInvalid"


class DigestMismatchError(CompilerError):
    reason = "DigestMismatch"


class ToolchainMissingError(CompilerError):
    reason = "ToolchainMissing"


class CompileFailedError(CompilerError):
    reason = "CompileFailed"


class VerificationFailedError(CompilerError):
    reason = "VerificationFailed"


class UnreachableError(CompilerError):
    """Something on the network did not answer; it may later."""

    retryable = True


class SourceUnreachableError(UnreachableError):
    reason = "SourceUnreachable"


class StorageUnreachableError(UnreachableError):
    reason = "StorageUnreachable"
