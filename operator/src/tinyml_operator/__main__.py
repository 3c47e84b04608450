"""`python -m tinyml_operator`: the operator, set up by TINYML_* (docs/operator.md)."""

from __future__ import annotations

import asyncio
import logging
import sys

from tinyml_operator.operator import run
from tinyml_operator.settings import Settings, SettingsError


def main() -> int:
    """Run until a signal; 2 where a setting cannot be used."""
    try:
        settings = Settings.from_env()
    except SettingsError as error:
        print(f"tinyml_operator: {error}", file=sys.stderr)
        return 2
    logging.basicConfig(
        level=settings.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
        stream=sys.stderr,
    )
    logging.getLogger("kopf").setLevel(logging.WARNING)
    logging.getLogger("botocore").setLevel(logging.WARNING)
    with asyncio.Runner() as runner:
        runner.run(run(settings))
    return 0


if __name__ == "__main__":
    sys.exit(main())
