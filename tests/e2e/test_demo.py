"""`make demo`'s command does what the README says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.timeout(420)
def test_demo_ends_with_answers_of_the_devices(tmp_path: Path) -> None:
    demo = subprocess.run(
        [sys.executable, "-m", "tinyml_cli", "demo"],
        capture_output=True,
        text=True,
        timeout=400,
        env={**os.environ, "COLUMNS": "160", "TMPDIR": str(tmp_path)},
        check=False,
    )
    assert demo.returncode == 0, demo.stdout + demo.stderr
    out = demo.stdout
    float_accuracy = float(re.search(r"float accuracy\s+([\d.]+)%", out)[1])
    int8_accuracy = float(re.search(r"int8 accuracy on devices\s+([\d.]+)%", out)[1])
    assert float_accuracy > 90
    assert int8_accuracy > float_accuracy - 3
    assert re.search(r"instructions\s+[\d,]+ per inference", out)
    assert "bit for bit" in out
    assert "everything is stopped" in out
    assert not list(tmp_path.iterdir()), "the demo left files behind"
