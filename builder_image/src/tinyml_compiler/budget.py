"""Does what was built fit? The class's RAM, and the limits that the user sets.

Slots are checked where images are packed (`images`), regions by the linker (`link`).
"""

from __future__ import annotations

from dataclasses import dataclass

from tinyml_compiler.errors import ArenaTooLargeError, BudgetExceededError
from tinyml_compiler.report import RamBytes
from tinyml_compiler.target import Target


@dataclass(frozen=True, slots=True)
class Limits:
    """The user's own, in bytes, of the report's `flash_bytes.total` and `ram_bytes.total`."""

    flash_bytes: int | None = None
    ram_bytes: int | None = None


def check_ram(target: Target, ram: RamBytes, *, firmware_bytes: int, stack_bytes: int) -> None:
    """Raise `ArenaTooLargeError` unless arena, data and stack fit the RAM of the class.

    `firmware_bytes` is static data around the inference, `stack_bytes` what is reserved as stack.
    """
    stack = max(stack_bytes, ram.stack)
    needed = ram.arena + ram.static + firmware_bytes + stack
    if needed > target.ram.size_bytes:
        raise ArenaTooLargeError(
            f"arena needs {ram.arena} bytes, with {ram.static + firmware_bytes} of data and "
            f"{stack} of stack {needed}; device class {target.name!r} has "
            f"{target.ram.size_bytes}: lower the input size or drop the class"
        )


def check_budget(limits: Limits, *, flash: int, ram: int) -> None:
    """Raise `BudgetExceededError` naming each of the user's limits that is exceeded."""
    found = (
        ("flash", flash, limits.flash_bytes, "flashBytes"),
        ("RAM", ram, limits.ram_bytes, "ramBytes"),
    )
    over = [
        f"the inference needs {needed} bytes of {memory}, spec.budget.{name} allows {limit}"
        for memory, needed, limit, name in found
        if limit is not None and needed > limit
    ]
    if over:
        raise BudgetExceededError("; ".join(over) + ": use a smaller model or raise the budget")
