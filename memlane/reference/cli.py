"""The command line as a page: every command with its arguments, options, defaults and examples."""

from collections.abc import Iterator, Sequence
from typing import Any

import typer.main

from memlane.cli.app import app
from memlane.reference.markdown import block, code, page, table

_HEAD = """# Command line

`memlane --help` shows the commands, `memlane COMMAND --help` one of them. Exit codes: 0 done, 1 an error of the system
or a result that is not good, 2 wrong input."""

_SERVER = """## Which server

Commands that ask a server take these. Without them it is the stack on this machine."""

_SERVERS = ("url", "api_key", "data", "as_json")
"""The options that say which server, and how it is answered; they are explained once."""

_COMPLETION = ("install_completion", "show_completion")
"""What typer brings, and only where it finds a shell that it knows."""


def cli_page() -> str:
    """The page, made from the commands themselves."""
    whole = typer.main.get_command(app)
    commands = list(_walk("memlane", whole))
    asking = next(command for _, command in commands if _asks_a_server(command))
    common = [parameter for parameter in asking.params if parameter.name in _SERVERS]
    sections = [_section(name, command) for name, command in commands]
    return page(_HEAD, *sections[:1], _SERVER, _options(asking, common), *sections[1:])


def _walk(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    """A command and those below it, in the order of the help."""
    if not command.hidden:
        yield name, command
        for sub, inner in getattr(command, "commands", {}).items():
            yield from _walk(f"{name} {sub}", inner)


def _asks_a_server(command: Any) -> bool:
    return set(_SERVERS) <= {parameter.name for parameter in command.params}


def _section(name: str, command: Any) -> str:
    asks = _asks_a_server(command)
    own = [
        parameter
        for parameter in command.params
        if not parameter.hidden
        and parameter.name not in ("help", *_COMPLETION)
        and not (asks and parameter.name in _SERVERS)
    ]
    text, examples = _help(command.help or "")
    context = command.make_context(name, [], resilient_parsing=True)
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    return page(
        f"## {name}",
        text,
        block("", usage),
        _arguments(command, [parameter for parameter in own if parameter.param_type_name == "argument"]),
        _options(command, [parameter for parameter in own if parameter.param_type_name == "option"]),
        "It also takes the options of [which server](#which-server)." if asks else "",
        block("sh", *examples),
    )


def _help(text: str) -> tuple[str, Sequence[str]]:
    """What a help says, and the commands that it shows; lines that begin with the program's name are such, too."""
    said, shown = [], []
    for line in text.strip().splitlines():
        bare = line.strip()
        if bare.startswith(("Example: ", "memlane ")):
            shown.append(bare.removeprefix("Example: "))
        else:
            said.append(bare)
    return "\n".join(said), shown


def _arguments(command: Any, parameters: Sequence[Any]) -> str:
    rows = [
        (code(parameter.name), _type(command, parameter), _meaning(parameter, needed=parameter.required))
        for parameter in parameters
    ]
    return table(("argument", "type", "meaning"), rows)


def _options(command: Any, parameters: Sequence[Any]) -> str:
    rows = [
        (
            ", ".join(map(code, [*parameter.opts, *parameter.secondary_opts])),
            _type(command, parameter),
            _meaning(parameter, needed=parameter.required),
            _default(parameter),
        )
        for parameter in parameters
    ]
    return table(("option", "type", "meaning", "default"), rows)


def _type(command: Any, parameter: Any) -> str:
    """What an option takes; nothing for one that is given or not."""
    if getattr(parameter, "is_flag", False):
        return ""
    context = command.make_context("memlane", [], resilient_parsing=True)
    name = parameter.display_type(context).strip("<>").removesuffix(" range")
    low, high = getattr(parameter, "min", None), getattr(parameter, "max", None)
    if low is None and high is None:
        return code(name)
    return code(name) + (f" from {low}" if low is not None else "") + (f" to {high}" if high is not None else "")


def _meaning(parameter: Any, *, needed: bool) -> str:
    said = [parameter.help or ""]
    if needed:
        said.append("Required.")
    if parameter.envvar:
        said.append(f"Or {code(parameter.envvar)}.")
    return " ".join(part for part in said if part)


def _default(parameter: Any) -> str:
    value = parameter.default
    if value is None or value is False or callable(value):
        return ""
    if value is True:
        return code(parameter.opts[0])
    return code(str(getattr(value, "value", value)))
