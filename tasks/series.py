"""Series: their names with labels as Prometheus writes them, and values that are looked up by them."""

import re
from collections.abc import Iterator, Mapping

from prometheus_client.samples import Sample

_KEY = re.compile(r"^(?P<name>\w+)(?:\{(?P<labels>.*)\})?$", re.DOTALL)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"', re.DOTALL)
_MEANT = {r"\\": "\\", r"\n": "\n", r"\"": '"'}


def series(sample: Sample) -> str:
    """The name of a series with its labels, as Prometheus writes it."""
    labels = ",".join(f'{name}="{_escaped(value)}"' for name, value in sorted(sample.labels.items()))
    return f"{sample.name}{{{labels}}}" if labels else sample.name


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def parsed(key: str) -> tuple[str, dict[str, str]]:
    """The name and the labels of a series, as `series` writes it."""
    match = _KEY.match(key)
    if match is None:
        return key, {}
    labels = _LABEL.findall(match["labels"] or "")
    return match["name"], {name: re.sub(r"\\.", lambda m: _MEANT.get(m[0], m[0]), value) for name, value in labels}


class Series:
    """Values by the names of series, each of which is read once.

    Args:
        values: as processes tell them.
    """

    def __init__(self, values: Mapping[str, float]) -> None:
        self._found: dict[str, list[tuple[dict[str, str], float]]] = {}
        for key, value in values.items():
            name, labels = parsed(key)
            self._found.setdefault(name, []).append((labels, value))

    def of(self, name: str, **having: str) -> Iterator[tuple[Mapping[str, str], float]]:
        """The series of a name that have these labels: all their labels, and their values."""
        for labels, value in self._found.get(name, []):
            if having.items() <= labels.items():
                yield labels, value

    def by(self, name: str, label: str, **having: str) -> dict[str, float]:
        """Their values by one of their labels."""
        return {labels[label]: value for labels, value in self.of(name, **having) if label in labels}

    def names(self, name: str, label: str) -> list[str]:
        """The values of a label."""
        return sorted(self.by(name, label))
