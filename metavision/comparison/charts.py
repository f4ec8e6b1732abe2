"""Charts as SVG, drawn without a library so that a page needs no network and follows the reader's theme.

Colours, fonts and widths are classes of `page.css`; s0, s1, … are the colours of the groups. Every mark says its
figures in a `<title>`, which browsers show on hovering.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

WIDTH, HEIGHT = 480, 300
TOP, BOTTOM, RIGHT = 24, 40, 14  # margins
COLOURS = 8  # then they begin anew, dashed; what is beyond that is grey

Point = tuple[float, float]
Text = Callable[[float], str]


def element(name: str, content: str = "", *, title: str = "", **attributes: object) -> str:
    """`<name class="…">content</name>`: `style` is the class, numbers have a digit, `_` in names is a hyphen."""
    given = {"class": attributes.pop("style", None), **attributes}
    words = [f' {key.replace("_", "-")}="{escape(_digits(v))}"' for key, v in given.items() if v is not None]
    shown = f"<title>{escape(title)}</title>" if title else ""
    return f"<{name}{''.join(words)}>{shown}{content}</{name}>"


def svg(label: str, width: float, height: float, parts: Iterable[str]) -> str:
    """A picture with a name."""
    return element("svg", "".join(parts), role="img", aria_label=label, viewBox=f"0 0 {width:g} {height:g}")


def words(text: str, x: float, y: float, style: str = "tick", anchor: str = "start") -> str:
    """Text at a place."""
    return element("text", escape(text), style=style, x=x, y=y, text_anchor=anchor)


def path(points: Iterable[Point], style: str, title: str = "") -> str:
    """A line through places."""
    return element(
        "polyline", title=title, style=f"line {style}", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    )


def colour(index: int) -> str:
    """The class of a group's colour."""
    if index >= 2 * COLOURS:
        return "rest"
    return f"s{index % COLOURS}" + (" again" if index >= COLOURS else "")


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers from low to high."""
    if not high > low:
        return [low]
    raw = (high - low) / most
    size = 10 ** math.floor(math.log10(raw))
    step = next(m * size for m in (1, 2, 2.5, 5, 10) if m * size >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def powers(low: float, high: float) -> list[float]:
    """1, 3, 10, 30, … from low to high."""
    found = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [m * 10.0**k for k in found for m in (1, 3) if low <= m * 10.0**k <= high]


def plain(value: float) -> str:
    """A number as short as it can be: 40k, 0.5, 3."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{unit}"
    return f"{value:.6g}"


def percent(value: float) -> str:
    """A share in percent, without the sign."""
    return f"{100 * value:.4g}"


@dataclass(kw_only=True)
class Chart:
    """Axes, and what is drawn on them.

    Args:
        label: what it shows, for those who do not see it.
        x: range of the horizontal axis; likewise `y`.
        x_label: under it; likewise `y_label`, over the vertical one.
        x_text: a tick's text; likewise `y_text`.
        x_ticks: where they are; None: at round numbers; likewise `y_ticks`.
        log: horizontal axis by powers.
    """

    label: str
    x: Point
    y: Point
    x_label: str = ""
    y_label: str = ""
    x_text: Text = plain
    y_text: Text = plain
    x_ticks: Sequence[float] | None = None
    y_ticks: Sequence[float] | None = None
    log: bool = False
    width: int = WIDTH
    height: int = HEIGHT
    left: int = 48
    parts: list[str] = field(default_factory=list)

    def at(self, x: float, y: float) -> Point:
        """Where a value is drawn."""
        (x0, x1), (y0, y1) = self.x, self.y
        if self.log:
            x, x0, x1 = (math.log10(v) for v in (x, x0, x1))
        across = (x - x0) / (x1 - x0) if x1 > x0 else 0.5
        up = (y - y0) / (y1 - y0) if y1 > y0 else 0.5
        inner, tall = self.width - self.left - RIGHT, self.height - TOP - BOTTOM
        return self.left + across * inner, TOP + (1 - up) * tall

    def line(self, points: Iterable[Point], style: str, title: str = "") -> None:
        """Through values."""
        self.parts.append(path([self.at(*p) for p in points], style, title))

    def band(self, xs: Sequence[float], low: Sequence[float], high: Sequence[float], style: str) -> None:
        """Between two lines."""
        edge = [*zip(xs, high, strict=True), *reversed(list(zip(xs, low, strict=True)))]
        self.parts.append(element("polygon", style=f"band {style}", points=_joined(self.at(*p) for p in edge)))

    def dot(self, x: float, y: float, style: str, title: str = "", radius: float = 4) -> None:
        """A value."""
        cx, cy = self.at(x, y)
        self.parts.append(element("circle", title=title, style=f"dot {style}", cx=cx, cy=cy, r=radius))

    def note(self, x: float, y: float, text: str) -> None:
        """Words beside a value."""
        px, py = self.at(x, y)
        self.parts.append(words(text, px + 9, py + 4, "tick"))

    def svg(self) -> str:
        """The picture."""
        floor, end = self.height - BOTTOM, self.width - RIGHT
        across = self.x_ticks if self.x_ticks is not None else ticks(*self.x)
        axes = [words(self.x_text(v), self.at(v, self.y[0])[0], floor + 16, anchor="middle") for v in across]
        for v in self.y_ticks if self.y_ticks is not None else ticks(*self.y):
            y = self.at(self.x[0], v)[1]
            axes.append(element("line", style="grid", x1=self.left, x2=end, y1=y, y2=y))
            axes.append(words(self.y_text(v), self.left - 7, y + 4, anchor="end"))
        axes.append(element("line", style="axis", x1=self.left, x2=end, y1=floor, y2=floor))
        axes.append(words(self.x_label, (self.left + end) / 2, self.height - 6, "name", "middle"))
        axes.append(words(self.y_label, 4, 13, "name"))
        return svg(self.label, self.width, self.height, [*axes, *self.parts])


def interval_row(mean: float, half: float, wide: float, over: Point, style: str, title: str) -> str:
    """A dot with its interval, and a wider one behind it, on a scale that all rows of a table share."""
    width, height = 220, 26
    low, high = over

    def x(value: float) -> float:
        return 8 + (width - 16) * (min(max(value, low), high) - low) / ((high - low) or 1)

    parts = []
    for size, kind in ((wide, "wide"), (half, "whisker")):
        if math.isfinite(size):
            parts.append(path([(x(mean - size), height / 2), (x(mean + size), height / 2)], f"{kind} {style}"))
    parts.append(element("circle", style=f"dot {style}", cx=x(mean), cy=height / 2, r=4.5))
    return svg(title, width, height, parts)


def heat(values: Sequence[Sequence[float]], names: Sequence[str], label: str) -> str:
    """A confusion matrix of shares, names at its left."""
    n, left, top = len(names), 118, 8
    cell = max(9.0, min(26.0, 380 / n))
    parts = []
    for i, row in enumerate(values):
        y = top + i * cell
        parts.append(words(short(names[i]), left - 6, y + cell * 0.72, "tick", "end"))
        for j, v in enumerate(row):
            shade = 0.04 + 0.96 * (v if i == j else min(1.0, v**0.5))  # errors are rarer, so their shades rise sooner
            parts.append(
                element(
                    *("rect", ""),
                    title=f"{names[i]} taken for {names[j]}: {100 * v:.1f} %",
                    style="right" if i == j else "wrong",
                    x=left + j * cell,
                    y=y,
                    width=cell - 1,
                    height=cell - 1,
                    fill_opacity=f"{shade:.3f}",
                )
            )
    return svg(label, left + n * cell + 4, top + n * cell + 4, parts)


def short(name: str, most: int = 17) -> str:
    """The last part of a name, cut."""
    last = name.rsplit("/", 1)[-1]
    return last if len(last) <= most else f"{last[: most - 1]}…"


def _joined(points: Iterable[Point]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _digits(value: object) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)
