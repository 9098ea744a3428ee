"""The docs say what is true: paths and commands exist, the reference is that of the code, no figure is left open."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from typer.testing import CliRunner

import memlane
from memlane import errors
from memlane.cli.app import app
from memlane.config.settings import load_settings
from memlane.contract import limits
from memlane.gateway.app import create_app
from memlane.reference.navigation import navigation
from memlane.reference.pages import PAGES as PAGES_MADE
from memlane.storage.job_state import LIFE, JobState, Move

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
COMMANDS: Any = typer.main.get_command(app)


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES_MADE, ids=str)
def test_the_reference_is_made_from_the_code(page: str) -> None:
    assert (ROOT / "docs" / "reference" / page).read_text() == PAGES_MADE[page](), (
        "stale: `make reference` makes it anew"
    )


def test_the_reference_is_the_same_everywhere() -> None:
    """However wide the terminal, with colours or without, whatever the environment sets."""
    named = {"MEMLANE_PORT": "9", "MEMLANE_URL": "http://h", "MEMLANE_PROFILE": "test", "MEMLANE_LEASE_S": "77"}
    there = {**os.environ, **named, "COLUMNS": "40", "FORCE_COLOR": "1", "PYTHONHASHSEED": "7"}
    made = "import sys; from memlane.reference.pages import PAGES; sys.stdout.write(PAGES[sys.argv[1]]())"
    for page in PAGES_MADE:
        command = [sys.executable, "-c", made, page]
        done = subprocess.run(command, env=there, capture_output=True, text=True, check=True)
        assert done.stdout == PAGES_MADE[page]()


def test_the_python_page_names_all_that_is_exported() -> None:
    headings = set(re.findall(r"^## (\w+)$", PAGES_MADE["python.md"](), re.MULTILINE))
    assert set(memlane.__all__) - headings == {"MemlaneError", "__version__"}
    errors_named = set(re.findall(r"^\| `(\w+)` \|", PAGES_MADE["python.md"](), re.MULTILINE))
    assert {
        name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.MemlaneError)
    } <= errors_named


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


def walk(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """A command and all below it."""
    yield name, command
    for sub, inner in getattr(command, "commands", {}).items():
        yield from walk(inner, f"{name} {sub}")


ALL = dict(walk(COMMANDS, "memlane"))
LEAVES = [name for name, command in ALL.items() if not hasattr(command, "commands")]
GROUPS = [name for name in ALL if name not in LEAVES]


def shown(name: str) -> list[str]:
    """The commands that a help shows."""
    lines = [line.strip() for line in ALL[name].help.splitlines()]
    return [line.removeprefix("Example: ") for line in lines if line.startswith(("Example: ", "memlane "))]


def help_of(name: str) -> str:
    """What `--help` prints in a terminal of 80 columns."""
    runner = CliRunner(env={"COLUMNS": "80", "TERMINAL_WIDTH": "80", "NO_COLOR": "1"})
    done = runner.invoke(app, [*name.split()[1:], "--help"], prog_name="memlane")
    assert done.exit_code == 0
    return done.output


def parsed(line: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Parse an example as the program would, to the values of its options; the name of the command that it calls."""
    inner = re.search(r"\$\((.*)\)", line)
    words = shlex.split(inner[1] if inner else line)
    words = list(takewhile(lambda word: word not in ("|", ">", "<"), words))
    while "=" in words[0]:
        words.pop(0)
    command, name = COMMANDS, words.pop(0)
    assert name == "memlane"
    while words and words[0] in getattr(command, "commands", {}):
        name += f" {words[0]}"
        command = command.commands[words.pop(0)]
    for variable in [one for one in os.environ if one.startswith("MEMLANE_")]:
        monkeypatch.delenv(variable)
    monkeypatch.chdir(ROOT)
    command.make_context(name, words)
    return name


@pytest.mark.parametrize("name", ALL)
def test_every_command_has_help(name: str) -> None:
    assert ALL[name].help
    assert [parameter.name for parameter in ALL[name].params if not getattr(parameter, "help", None)] == []


@pytest.mark.parametrize("name", LEAVES)
def test_every_command_shows_an_example_of_itself_that_parses(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {parsed(line, monkeypatch) for line in shown(name)} == {name}


def test_the_help_begins_with_three_commands_to_try(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [parsed(line, monkeypatch) for line in shown("memlane")] == [
        "memlane up",
        "memlane remember",
        "memlane recall",
    ]


@pytest.mark.parametrize("name", ALL)
def test_help_is_printed_as_it_is_written(name: str) -> None:
    """No word in brackets is lost as markup, and no example is broken in two."""
    printed = help_of(name)
    words = " ".join(printed.split())
    for paragraph in ALL[name].help.split("\n\n"):
        assert " ".join(paragraph.split()) in words
    for line in shown(name):
        assert line in printed
    boxed = " ".join(printed.replace("│", " ").split())
    for parameter in ALL[name].params:
        for word in re.findall(r"\S*\[\S*", parameter.help or ""):
            assert word in boxed


@pytest.mark.parametrize("name", GROUPS)
def test_a_group_lists_its_commands(name: str) -> None:
    printed = help_of(name)
    assert [sub for sub in ALL[name].commands if sub not in printed] == []


def test_the_api_pages_name_endpoints_that_exist() -> None:
    described = create_app(load_settings(nodes={"a": "postgresql://h"})).openapi()["paths"]
    endpoints = {f"{method.upper()} {path}" for path, methods in described.items() for method in methods}
    reference = (ROOT / "docs" / "reference" / "http-api.md").read_text()
    assert set(re.findall(r"^### ((?:GET|POST|PUT|PATCH|DELETE) /\S+)$", reference, re.MULTILINE)) == endpoints
    for page in (ROOT / "docs").rglob("*.md"):
        for named in re.findall(r"`((?:GET|POST|PUT|PATCH|DELETE) /[\w/{}.]+)", page.read_text()):
            assert named in endpoints, page


def test_the_life_of_a_job_is_drawn_as_the_code_has_it() -> None:
    page = (ROOT / "docs" / "explanation" / "guarantees.md").read_text().partition("## The promises")[0]
    drawing = page.split("```")[1]
    words = {word.rstrip(",") for word in drawing.split()}
    assert words >= {*JobState, *Move}
    assert {word for word in words if word.isalpha()} <= {*JobState, *Move}
    rows = re.findall(r"^\| (\w+) \| ([\w, -]+) \| (\w+) \| .+ \|$", page, re.MULTILINE)
    drawn = {move: (set(states.split(", ")) - {"-"}, to) for move, states, to in rows if move != "move"}
    assert drawn == {move: (set(way.states), way.to) for move, way in LIFE.items()}


def test_every_state_of_a_job_is_reached_and_left() -> None:
    """From nothing; and those that end a job lead nowhere."""
    reached = {way.to for way in LIFE.values()}
    left = {state for way in LIFE.values() for state in way.states}
    assert set(LIFE) == set(Move)
    assert reached == set(JobState)
    assert reached - left == {JobState.DONE, JobState.DROPPED, JobState.FORGOTTEN}


def test_every_page_is_in_the_navigation() -> None:
    def named(entry: Any) -> Iterator[str]:
        if isinstance(entry, str):
            yield entry
        for inner in entry if isinstance(entry, list) else entry.values() if isinstance(entry, dict) else ():
            yield from named(inner)

    docs = ROOT / "docs"
    found = list(named(navigation(docs)))
    assert sorted(found) == sorted(str(page.relative_to(docs)) for page in docs.rglob("*.md"))
    assert all((docs / page).is_file() for page in found)


def test_a_link_that_leads_nowhere_ends_the_build() -> None:
    validation = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["validation"]
    assert {level for part in validation.values() for level in part.values()} == {"warn"}
    assert set(validation["links"]) == {"not_found", "anchors", "absolute_links", "unrecognized_links"}
    assert set(validation["nav"]) == {"omitted_files", "not_found", "absolute_links"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; a warning, such as a broken link or anchor, ends the build."""
    folder = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_the_site_has_every_page(site: Path) -> None:
    pages = [path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")]
    assert [str(page) for page in pages if not (site / page).is_file()] == []


def test_the_tables_of_the_site_show_types_as_they_are(site: Path) -> None:
    shown = (site / "reference" / "python.html").read_text()
    assert "<td><code>UUID &#124; None</code></td>" in shown
    assert "\\|" not in shown


def test_the_site_asks_nobody_else(site: Path) -> None:
    """Links may lead elsewhere; nothing is loaded from there, by a page, a style sheet or an import."""
    loads = re.compile(
        r"""<(?!a\b)\w+[^>]*?\s(?:src|href|data|action|srcset)=["']?((?:https?:)?//[^"'\s>]+)"""
        r"""|(?:url\(|@import\s)["']?((?:https?:)?//[^"')\s]+)"""
    )
    files = [path for path in site.rglob("*") if path.suffix in (".html", ".css")]
    assert len(files) > len(PAGES_MADE)
    assert loads.search('<script src="https://cdn.example/x.js">')
    assert loads.search("@import 'https://fonts.example/css'")
    for path in files:
        found = [match[0] for match in loads.finditer(path.read_text())]
        assert found == [], path.relative_to(site)


def test_nothing_on_the_site_makes_its_scripts_ask_elsewhere(site: Path) -> None:
    """The theme's script fetches a drawing library, and a stand-in for old browsers, when a page needs them."""
    scripts = "".join(path.read_text() for path in site.rglob("*.js"))
    known = {"unpkg.com/mermaid@11/dist/mermaid.min.js", "unpkg.com/resize-observer-polyfill"}
    assert set(re.findall(r"unpkg\.com/[\w@./-]+|[\w.-]*googleapis\.com[\w/.-]*", scripts)) <= known
    assert [path for path in site.rglob("*.html") if 'class="mermaid"' in path.read_text()] == []


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_no_figure_is_left_open(page: Path) -> None:
    found = re.findall(r"\b[A-Z]{3,}_[A-Z]{3,}\b", re.sub(r"(MEMLANE|SENTRY|PATH)_\w+", "", page.read_text()))
    assert [name for name in found if not hasattr(limits, name)] == []
