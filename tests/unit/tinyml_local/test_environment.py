"""The local environment says which part does not start, and stops what it had started."""

from __future__ import annotations

from pathlib import Path

import pytest
from tinyml_local.environment import CannotStartError, Environment, Settings


async def test_a_part_that_ends_at_its_start_is_named_with_its_log(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path, python="/bin/false")
    with pytest.raises(CannotStartError, match=r"S3 ended 3 times at its start, see .*s3\.log"):
        async with Environment(settings):
            raise AssertionError("nothing can run with /bin/false as its Python")
