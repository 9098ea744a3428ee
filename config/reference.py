"""The settings as a page of the docs: `python -m memlane.config.reference > docs/reference/settings.md`."""

import sys
from enum import StrEnum
from pathlib import Path

from platformdirs import user_cache_path
from pydantic import SecretStr

from memlane.config.settings import Settings

_HEAD = """# Settings

What the server's processes read from the environment, or from files named like the variables in small letters in
`MEMLANE_SECRETS_DIR`, such as `/run/secrets/memlane_nodes`; the environment wins. Made from `config/settings.py` by
`python -m memlane.config.reference`. The clients and the command line read three more: `MEMLANE_URL` and
`MEMLANE_API_KEY` name a server, `MEMLANE_DATA` the data directory of a stack on this machine.

| variable | meaning | default |
|---|---|---|
"""


def settings_page() -> str:
    """The page: a line for each setting, with its meaning, unit and default."""
    lines = []
    for name, field in Settings.model_fields.items():
        meaning = " ".join((field.description or "").split())
        lines.append(
            f"| `MEMLANE_{name.upper()}` | {meaning} | {_default(field.get_default(call_default_factory=True))} |"
        )
    return _HEAD + "\n".join(lines) + "\n"


def _default(value: object) -> str:
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, Path) and value.is_relative_to(user_cache_path("memlane")):
        return "in the user's cache"
    if value is None or value in ({}, "none"):
        return ""
    return f"`{value.value if isinstance(value, StrEnum) else value}`"


if __name__ == "__main__":
    sys.stdout.write(settings_page())
