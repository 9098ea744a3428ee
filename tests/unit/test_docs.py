"""The docs say what is true: paths and commands exist, the settings are those of the code, no figure is left open."""

import re
import shlex
from pathlib import Path

import pytest
import typer.main

from memlane.cli.app import app
from memlane.config.reference import settings_page
from memlane.config.settings import load_settings
from memlane.gateway.app import create_app

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
COMMANDS = typer.main.get_command(app)


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_settings_page_is_made_from_the_code() -> None:
    assert (ROOT / "docs" / "reference" / "settings.md").read_text() == settings_page()


def test_architecture_names_paths_that_exist() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    named = {name for name in re.findall(r"`([\w./-]+)`", text) if "/" in name}
    assert named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_architecture_names_every_source_folder() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    folders = {
        path.parent.relative_to(ROOT)
        for path in ROOT.rglob("*.py")
        if not any(part.startswith(".") or part == "__pycache__" for part in path.relative_to(ROOT).parts)
        and not any(parent.is_symlink() for parent in path.parents)
    }
    assert [
        str(folder) for folder in sorted(folders) if f"`{folder}/" not in text and str(folder) not in (".", "memlane")
    ] == []


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
    missing = [link for link in links if not link.startswith("http") and not (page.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_commands_in_the_docs_exist_with_their_options(page: Path) -> None:
    for line in re.findall(r"(?:^|`|\s)memlane ((?:[a-z]|--version)[^`\n#(]*)", page.read_text()):
        words = [word for word in shlex.split(line.replace("'", "").replace('"', ""), comments=True) if word]
        command = COMMANDS
        for word in list(words):
            found = getattr(command, "commands", {}).get(word)
            if found is None:
                break
            command = found
            words.pop(0)
        if command is COMMANDS:
            continue  # prose: "memlane is", "memlane needs"
        known = {option for parameter in command.params for option in parameter.opts + parameter.secondary_opts}
        unknown = [word for word in words if word.startswith("--") and word.split("=")[0].rstrip(",") not in known]
        assert unknown == [], line


def test_every_command_has_help() -> None:
    def walk(command: object, name: str) -> None:
        assert getattr(command, "help", None), name
        for sub, inner in getattr(command, "commands", {}).items():
            walk(inner, f"{name} {sub}")

    walk(COMMANDS, "memlane")


def test_the_api_page_names_endpoints_that_exist() -> None:
    paths = set(create_app(load_settings(nodes={"a": "postgresql://h"})).openapi()["paths"])
    text = (ROOT / "docs" / "reference" / "http-api.md").read_text()
    for named in re.findall(r"`(?:GET|POST|DELETE) (/[\w/{}]+)", text):
        assert named in paths, named
    for path in paths:
        if not path.startswith("/v1/admin"):
            assert path in text, path


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_no_figure_is_left_open(page: Path) -> None:
    text = re.sub(r"(MEMLANE|SENTRY|PATH)_\w+", "", page.read_text())
    assert re.findall(r"\b[A-Z]{3,}_[A-Z]{3,}\b", text) == []
