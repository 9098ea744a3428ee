"""Environments of the peers: each is made from a lock file of its own, and used again until that changes."""

import shutil
import subprocess
import sys
from pathlib import Path

_PATIENCE_S = 600
_WORDS = 160


class NotMade(Exception):
    """An environment could not be made; the message has one line."""


def environment(lock: Path, home: Path) -> Path:
    """The Python of the environment that a lock file describes.

    Args:
        lock: versions and hashes.
        home: the folder that holds the environments.

    Raises:
        NotMade: a package is missing, or is not what the lock says.
    """
    folder = (home / lock.stem).absolute()
    python, made_of = folder / "bin" / "python", folder / "made-of"
    wanted = f"# Python {sys.version}\n{lock.read_text()}"
    if not (python.exists() and made_of.exists() and made_of.read_text() == wanted):
        shutil.rmtree(folder, ignore_errors=True)
        _uv("venv", "--python", sys.executable, str(folder))
        _uv("pip", "install", "--python", str(python), "--require-hashes", "-r", str(lock))
        made_of.write_text(wanted)
    return python


def _uv(*arguments: str) -> None:
    command = [sys.executable, "-m", "uv", "--quiet", "--no-progress", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
    except subprocess.TimeoutExpired:
        raise NotMade(f"uv {arguments[0]} took more than {_PATIENCE_S} s") from None
    if done.returncode:
        said = " ".join(done.stderr.split())[:_WORDS]
        raise NotMade(f"uv {arguments[0]} ended with code {done.returncode}: {said}")
