"""A browser without a window, and a stack for it to look at."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

CHROMIUM = Path("/usr/bin/chromium")
DRIVER = Path("/usr/bin/chromedriver")
CI = os.environ.get("CI") == "true"


@dataclass(frozen=True, slots=True)
class RunningStack:
    """A stack in the background: what `memlane env` says of it."""

    environment: Mapping[str, str]

    @property
    def flower(self) -> str:
        """Where Flower is."""
        return self.environment["MEMLANE_FLOWER_URL"]

    @property
    def login(self) -> tuple[str, str]:
        """Who may look."""
        return self.environment["MEMLANE_FLOWER_USER"], self.environment["MEMLANE_FLOWER_PASSWORD"]

    def flower_as(self, user: str, password: str) -> str:
        """Flower's address for somebody."""
        return urlsplit(self.flower)._replace(netloc=f"{user}:{password}@{urlsplit(self.flower).netloc}").geturl()


@pytest.fixture(scope="module")
def stack(server_folder: Path) -> Iterator[RunningStack]:
    """A stack, as a user starts it."""
    folder = server_folder / "browser"
    env = {"PATH": os.environ["PATH"], "HOME": str(folder / "home"), "MEMLANE_DATA": str(folder / "data")}

    def memlane(*arguments: str) -> str:
        command = [sys.executable, "-m", "memlane", *arguments]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    memlane("up", "--detach", "--embedder", "hash", "--port", "0", "--workers", "1")
    yield RunningStack(json.loads(memlane("env", "--json")))
    memlane("down")


@pytest.fixture
def open_browser(tmp_path: Path) -> Iterator[Callable[[], Chrome]]:
    """Opens browsers that know nobody yet; they are closed with the test."""
    for program in (CHROMIUM, DRIVER):
        if not program.exists():
            message = f"there is no {program} (Debian's packages chromium and chromium-driver)"
            pytest.fail(message) if CI else pytest.skip(message)
    opened: list[Chrome] = []

    def open_one() -> Chrome:
        options = ChromeOptions()
        options.binary_location = str(CHROMIUM)
        arguments = ["--headless=new", "--disable-dev-shm-usage", f"--user-data-dir={tmp_path / str(len(opened))}"]
        for argument in [*arguments, *(["--no-sandbox"] if os.geteuid() == 0 else [])]:
            options.add_argument(argument)
        opened.append(Chrome(options, Service(str(DRIVER))))
        return opened[-1]

    yield open_one
    for browser in opened:
        browser.quit()
