"""What is published works as printed: the examples of the docs, and the wheel in an empty environment."""

import json
import os
import re
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from memlane.embedded.folder import Folder

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
CI = os.environ.get("CI") == "true"


@pytest.fixture(scope="module")
def stack(server_folder: Path) -> Iterator[dict[str, str]]:
    """A stack, and the environment that `memlane up` tells its user to set."""
    data = server_folder / "published"
    up = [sys.executable, "-m", "memlane", "up", "--detach", "--embedder", "hash", "--port", "0", "--data", str(data)]
    printed = subprocess.run(up, check=True, capture_output=True, text=True).stdout
    yield dict(re.findall(r"export (\w+)=(\S+)", printed))
    subprocess.run([sys.executable, "-m", "memlane", "down", "--data", str(data)], check=True, capture_output=True)
    assert not Folder(data).in_use()


def blocks(page: str) -> list[str]:
    """The Python examples of a page that can run alone."""
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


EXAMPLES = [
    (page, code) for page in ("README.md", "docs/index.md", "docs/tutorial/getting-started.md") for code in blocks(page)
]


@pytest.mark.parametrize(("page", "code"), EXAMPLES, ids=[f"{page}-{n}" for n, (page, _) in enumerate(EXAMPLES)])
def test_examples_run_as_printed(page: str, code: str, stack: dict[str, str]) -> None:
    assert set(stack) == {"MEMLANE_URL", "MEMLANE_API_KEY"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **stack},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if page == "README.md":
        assert "Caroline prefers green tea" in done.stdout


def test_the_wheel_in_an_empty_environment(server_folder: Path) -> None:
    """Built, installed with its extra by pip, started, used, stopped."""
    folder = server_folder / "wheel"
    folder.mkdir()
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("memlane-*.whl")
    pinned = re.findall(r"^([\w.-]+==.*?) *\\?$", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(pinned) + "\n")
    venv.create(folder / "venv", with_pip=True)
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder / "home"), "MEMLANE_DATA": str(folder / "data")}
    python = str(folder / "venv" / "bin" / "python")
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", str(constraints)]
    done = subprocess.run(
        [*install, f"{wheel}[server]"], env={**os.environ, "PIP_NO_INPUT": "1"}, capture_output=True, check=False
    )
    if done.returncode and not CI and b"No matching distribution" in done.stderr:
        pytest.skip("the package index cannot be reached")
    assert done.returncode == 0, done.stderr[-2000:]

    def memlane(*arguments: str) -> str:
        command = [str(folder / "venv" / "bin" / "memlane"), *arguments]
        found = subprocess.run(
            command, cwd="/", env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert found.returncode == 0, found.stderr
        return found.stdout

    assert memlane("--version").startswith("memlane 0.")
    top_level = [path.name for path in (folder / "venv").glob("lib/*/site-packages/*")]
    assert "memlane" in top_level
    assert not {"tasks", "config", "storage", "workers", "beat", "gateway", "embedded", "bench"} & set(top_level)
    memlane("up", "--detach", "--embedder", "hash", "--port", "0")
    try:
        memlane("remember", "ada", "green tea", "--wait")
        assert json.loads(memlane("recall", "ada", "tea?", "--json"))["hits"]
        assert "149 memories taken in" in memlane("demo")
    finally:
        memlane("down")
