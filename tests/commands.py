"""The command line as a user runs it: with an empty home and a data directory of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

MEMLANE = [sys.executable, "-m", "memlane"]

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(process_folder: Path) -> Run:
    """Runs a command with an empty home and its own data directory."""

    def go(
        *arguments: str, data: Path | None = None, code: int | None = 0, **more: str
    ) -> "subprocess.CompletedProcess[str]":
        env = {"PATH": os.environ["PATH"], "HOME": str(process_folder / "home"), "COLUMNS": "200", **more}
        if (cache := os.environ.get("MEMLANE_MODEL_CACHE")) is not None:
            env["MEMLANE_MODEL_CACHE"] = cache
        env["MEMLANE_DATA"] = str(data or process_folder / "data")
        done = subprocess.run([*MEMLANE, *arguments], env=env, capture_output=True, text=True, timeout=200, check=False)
        assert code is None or done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return go


def document(done: "subprocess.CompletedProcess[str]") -> Any:
    """What a command printed with --json."""
    return json.loads(done.stdout)
