"""The house: imports go one way, the errors are drawn as they are, what is exported is there."""

import ast
import re
from pathlib import Path

import memlane
from memlane import errors

ROOT = Path(__file__).parents[2]

LAYERS = (
    ("memlane.errors",),
    ("memlane.contract",),
    ("memlane.config",),
    ("memlane.storage",),
    ("memlane.tasks",),
    ("memlane.beat",),
    ("memlane.workers",),
    ("memlane.gateway",),
    ("memlane.client", "memlane.admin", "memlane.files", "memlane.testing"),
    ("memlane.embedded",),
    ("memlane.bench",),
    ("memlane.cli",),
    ("memlane.reference",),
)
"""From the bottom to the top; a module imports from its own layer and those below."""

LIGHT = ("memlane.errors", "memlane.contract", "memlane.client", "memlane.admin", "memlane.files", "memlane.testing")
"""What agent apps install: these import nothing of the server."""

CELERY_FREE = ("memlane.contract", "memlane.storage", "memlane.tasks", "memlane.beat", "memlane.client")


def modules() -> dict[str, ast.Module]:
    """Every module of the package by name."""
    found = {}
    for folder in [ROOT / "memlane", *(path for path in (ROOT / "memlane").iterdir() if path.is_symlink())]:
        prefix = "memlane" if folder.name == "memlane" else f"memlane.{folder.name}"
        for path in folder.resolve().rglob("*.py"):
            relative = path.relative_to(folder.resolve()).with_suffix("")
            name = ".".join((prefix, *relative.parts)).removesuffix(".__init__")
            found[name] = ast.parse(path.read_text())
    return found


def imports(tree: ast.Module) -> set[str]:
    """What a module imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def layer(name: str) -> int | None:
    """The layer of a module; None for the package itself."""
    for number, prefixes in enumerate(LAYERS):
        if any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes):
            return number
    return None


MODULES = modules()


def test_every_module_has_a_layer() -> None:
    assert [name for name in MODULES if layer(name) is None] == ["memlane", "memlane.__main__"] or {
        name for name in MODULES if layer(name) is None
    } <= {"memlane", "memlane.__main__", "memlane.examples"}


def test_imports_go_one_way() -> None:
    wrong = [
        f"{name} imports {used}"
        for name, tree in MODULES.items()
        for used in imports(tree)
        if (here := layer(name)) is not None and (there := layer(used)) is not None and there > here
    ]
    assert wrong == []


def test_no_import_goes_in_a_circle() -> None:
    graph = {
        name: {used for used in imports(tree) if used in MODULES and used != name} for name, tree in MODULES.items()
    }
    for package in ("memlane", *(name for name in MODULES if name.count(".") == 1)):
        graph.pop(package, None)  # packages gather what is in them
    done: set[str] = set()

    def walk(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path[path.index(name) :], name))
        if name not in done:
            for used in sorted(graph.get(name, ())):
                walk(used, (*path, name))
            done.add(name)

    for name in graph:
        walk(name, ())


def test_the_light_client_needs_no_server() -> None:
    server = ("memlane.config", "memlane.storage", "memlane.tasks", "memlane.workers", "memlane.gateway")
    wrong = [
        f"{name} imports {used}"
        for name, tree in MODULES.items()
        if name.startswith(LIGHT)
        for used in imports(tree)
        if used.startswith((*server, "celery", "psycopg", "numpy", "redis", "structlog"))
    ]
    assert wrong == []


def test_celery_is_known_to_few() -> None:
    wrong = [
        name
        for name, tree in MODULES.items()
        if name.startswith(CELERY_FREE) and any(used.split(".")[0] in ("celery", "kombu") for used in imports(tree))
    ]
    assert wrong == []


def test_only_config_reads_the_environment() -> None:
    allowed = {"memlane.client.address", "memlane.embedded.folder", "memlane.embedded.process", "memlane.embedded.run"}
    allowed |= {"memlane.storage.backup.programs"}  # it hands the environment on to a child
    wrong = [
        name
        for name, tree in MODULES.items()
        if not name.startswith(("memlane.config", "memlane.bench.peers")) and name not in allowed
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")
    ]
    assert wrong == []


def test_every_file_says_what_it_is() -> None:
    assert [name for name, tree in MODULES.items() if not ast.get_docstring(tree)] == []


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    drawn = set(re.findall(r"[├└]── (\w+)", errors.__doc__ or ""))
    real = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.MemlaneError) and value is not errors.MemlaneError
    }
    assert drawn == real


def test_errors_say_whose_they_are() -> None:
    """Those of a caller, or for a limit, are none of ours; their kinds go with them, unless they say otherwise."""
    assert {"InvalidInput", "TooLarge", "NotFound", "WaitTimeout", "BudgetRefused", "RateRefused"} <= errors.not_ours()
    assert errors.not_ours().isdisjoint({"NodeDown", "ProviderRefused", "ServerError", "MemlaneError", "Misconfigured"})


def test_what_is_exported_is_there_and_documented() -> None:
    for name in memlane.__all__:
        value = getattr(memlane, name)
        assert value.__doc__ or isinstance(value, str)


def test_the_version_is_one() -> None:
    assert f'version = "{memlane.__version__}"' in (ROOT / "pyproject.toml").read_text()


def test_names_of_nothing_are_not_used() -> None:
    forbidden = {"utils", "util", "helpers", "common", "misc", "base", "manager"}
    assert [name for name in MODULES if name.split(".")[-1] in forbidden] == []
