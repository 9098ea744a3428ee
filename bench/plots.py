"""Plots as SVG by hand: a few lines or bars, readable on light and on dark ground, and small."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import cycle
from math import ceil, floor, log10

_WIDTH, _HEIGHT = 760, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 216, 40, 44
_COLOURS = ("#3b82f6", "#e8710a", "#16a34a", "#a855f7", "#94a3b8")
_GREY = "#808890"

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class _Axis:
    """Values by their logarithm, between two powers of ten, on a stretch of the picture."""

    least: int
    most: int
    begins: float
    ends: float

    def at(self, value: float) -> float:
        share = (log10(value) - self.least) / max(1, self.most - self.least)
        return round(self.begins + share * (self.ends - self.begins), 1)

    @property
    def marks(self) -> list[float]:
        return [10.0**power for power in range(self.least, self.most + 1)]


def lines(title: str, across: str, up: str, series: Mapping[str, Points]) -> str:
    """Lines through points, both axes logarithmic.

    Args:
        title: of the picture.
        across: what the values from left to right are.
        up: what the values from bottom to top are.
        series: points by the name of their line; all values above 0.
    """
    points = [point for line in series.values() for point in line]
    x = _axis([point[0] for point in points], _LEFT, _WIDTH - _RIGHT)
    y = _axis([point[1] for point in points], _HEIGHT - _BOTTOM, _TOP)
    parts = [*_grid(x, y), _text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 6, across, "middle")]
    for number, ((name, line), colour) in enumerate(zip(series.items(), cycle(_COLOURS), strict=False)):
        places = " ".join(f"{x.at(a)},{y.at(b)}" for a, b in line)
        parts.append(f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x.at(a)}" cy="{y.at(b)}" r="3" fill="{colour}"/>' for a, b in line]
        parts.append(_text(_WIDTH - _RIGHT + 16, _TOP + 14 + 16 * number, name, "start", colour))
    return _picture(f"{title}: {up}", _HEIGHT, parts)


def bars(title: str, unit: str, values: Mapping[str, float]) -> str:
    """Bars from left to right, one under the other, each with its value; as long as its logarithm.

    Args:
        title: of the picture.
        unit: of the values.
        values: by name; all above 0.
    """
    left, row = 320, 24
    x = _axis([*values.values(), 1.0], left, _WIDTH - 80)
    parts = []
    for number, ((name, value), colour) in enumerate(zip(values.items(), _by_name(values), strict=True)):
        top = _TOP + row * number
        width = max(1.0, x.at(max(1.0, value)) - left)
        parts.append(f'<rect x="{left}" y="{top}" width="{width:.1f}" height="{row - 6}" rx="2" fill="{colour}"/>')
        parts.append(_text(left - 8, top + 13, name, "end"))
        parts.append(_text(left + width + 6, top + 13, f"{value:,.0f}", "start"))
    return _picture(f"{title}: {unit}, by their logarithm", _TOP + row * len(values) + 8, parts)


def _by_name(values: Mapping[str, float]) -> list[str]:
    """A colour for each, the same where the first words, up to a colon, are."""
    systems = list(dict.fromkeys(name.partition(":")[0] for name in values))
    return [_COLOURS[systems.index(name.partition(":")[0]) % len(_COLOURS)] for name in values]


def _axis(values: Sequence[float], begins: float, ends: float) -> _Axis:
    return _Axis(floor(log10(min(values))), max(ceil(log10(max(values))), 1), begins, ends)


def _grid(x: _Axis, y: _Axis) -> list[str]:
    upright = [_line(x.at(mark), _TOP, x.at(mark), _HEIGHT - _BOTTOM) for mark in x.marks]
    level = [_line(_LEFT, y.at(mark), _WIDTH - _RIGHT, y.at(mark)) for mark in y.marks]
    below = [_text(x.at(mark), _HEIGHT - _BOTTOM + 16, f"{mark:,g}", "middle") for mark in x.marks]
    beside = [_text(_LEFT - 8, y.at(mark) + 4, f"{mark:,g}", "end") for mark in y.marks]
    return [*upright, *level, *below, *beside]


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<path d="M{x1} {y1}L{x2} {y2}" stroke="{_GREY}" stroke-opacity=".35"/>'


def _text(x: float, y: float, words: str, anchor: str, colour: str = _GREY) -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="{colour}">{escape(words)}</text>'


def _picture(title: str, height: float, parts: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:g}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="12"><title>{escape(title)}</title>'
    )
    return "\n".join([head, _text(16, 22, title, "start"), *parts, "</svg>", ""])
