"""The settings as a page: a line for each, with its meaning, unit and default."""

import json
from enum import StrEnum
from pathlib import Path

from platformdirs import user_cache_path
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from memlane.config.settings import Settings
from memlane.reference.markdown import code, page, table

_HEAD = """# Settings

What the server's processes read from the environment, or from files named like the variables in small letters in
`MEMLANE_SECRETS_DIR`, such as `/run/secrets/memlane_nodes`; the environment wins. The clients and the command line read
three more: `MEMLANE_URL` and `MEMLANE_API_KEY` name a server, `MEMLANE_DATA` the data directory of a stack on this
machine."""


def settings_page() -> str:
    """The page, made from the fields of `Settings`."""
    rows = [
        (code(f"MEMLANE_{name.upper()}"), field.description or "", _default(field))
        for name, field in Settings.model_fields.items()
    ]
    return page(_HEAD, table(("variable", "meaning", "default"), rows))


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, Path) and value.is_relative_to(user_cache_path("memlane")):
        return "in the user's cache"
    if value is None or value in ({}, "none"):
        return ""
    if isinstance(value, tuple):
        return code(json.dumps(value))
    return code(value.value if isinstance(value, StrEnum) else str(value))
