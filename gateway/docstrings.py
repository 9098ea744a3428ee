"""What a docstring says, part by part: its text, and the meaning of each attribute, argument and error."""

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_SECTION = re.compile(r"(Args|Attributes|Raises):")
_ENTRY = re.compile(r"    (\S[^:]*): (.*)")


@dataclass(frozen=True, slots=True)
class Docstring:
    """A docstring that was read; each section maps a name to its meaning."""

    text: str
    args: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)
    raises: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, raw: str | None) -> "Docstring":
        """The parts of a docstring in Google's style; one that is missing says nothing."""
        said: list[str] = []
        sections: dict[str, dict[str, str]] = {"Args": {}, "Attributes": {}, "Raises": {}}
        section, names = "", [""]
        for line in inspect.cleandoc(raw or "").splitlines():
            if found := _SECTION.fullmatch(line):
                section = found[1]
            elif section and (entry := _ENTRY.fullmatch(line)):
                names = entry[1].split(", ")
                sections[section] |= dict.fromkeys(names, entry[2])
            elif section and line.startswith("        "):
                more = f"{sections[section][names[0]]} {line.strip()}"
                sections[section] |= dict.fromkeys(names, more)
            elif not section or line:
                section = ""
                said.append(line)
        return cls("\n".join(said).strip(), sections["Args"], sections["Attributes"], sections["Raises"])
