"""Pictures of data: a contact sheet of a split, an episode."""

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from metavision.data.draws import distinct, random_words
from metavision.data.episodes import Rows, Sampler
from metavision.data.source import Source
from metavision.seeds import seed

GAP = 0.06  # between images, as a share of their side
PER_INCH = 0.62  # side of an image in the picture, in inches
NAME = 34  # characters of a class's name that are shown


def contact_sheet(source: Source, path: Path, classes: int = 12, images: int = 12) -> None:
    """Some images of some classes, a row for each, spread evenly over the split."""
    order, start, count = source.by_class
    shown = np.linspace(0, len(source.classes) - 1, min(classes, len(source.classes))).round().astype(int)
    rows, names = [], []
    for c in shown:
        n = int(min(images, count[c]))
        words = random_words(seed("sheet", source.fingerprint), np.array([c]), n)
        rows.append(source.read(order[start[c] + distinct(words, np.array([[count[c]]]))[0]]))
        names.append(f"{_short(source.classes[c])}  ({count[c]})")
    title = f"{source.name} {source.split}: {len(shown)} of {len(source.classes)} classes, {len(source):,} images"
    _draw([_strip(row, images) for row in rows], names, title, path)


def episode_picture(sampler: Sampler, i: int, path: Path) -> None:
    """Episode i: the support of every class on the left, its queries on the right."""
    source, draw = sampler.source, sampler[i]
    rows, names = [], []
    width = [_most(part, len(draw.classes)) for part in (draw.support, draw.query)]
    for label, c in enumerate(draw.classes):
        if c >= 0 and (draw.support.label == label).any():
            parts = [
                _strip(source.read(_of(part, label)), n)
                for part, n in zip((draw.support, draw.query), width, strict=True)
            ]
            gap = np.full((parts[0].shape[0], parts[0].shape[0] // 3, 3), 255, np.uint8)
            rows.append(np.concatenate([parts[0], gap, parts[1]], axis=1))
            names.append(f"{label}: {_short(source.classes[c])}")
    title = f"{source.name} {source.split}, episode {i} ({sampler.spec}): support on the left, queries on the right"
    _draw(rows, names, title, path)


def _of(rows: Rows, label: int) -> np.ndarray:
    mine = rows.label == label
    return rows.image[mine if rows.mask is None else mine & rows.mask]


def _most(rows: Rows, k: int) -> int:
    return max(len(_of(rows, label)) for label in range(k))


def _short(name: str) -> str:
    return name if len(name) <= NAME else f"…{name[-NAME + 1 :]}"


def _strip(images: np.ndarray, n: int) -> np.ndarray:
    """(n, C, H, W) uint8 side by side as (H + gap, n * (W + gap), 3), with white where there are fewer than n."""
    side = images.shape[2]
    cell = side + max(1, round(GAP * side))
    strip = np.full((cell, n * cell, 3), 255, np.uint8)
    for place, image in enumerate(images):
        strip[:side, place * cell : place * cell + side] = np.broadcast_to(image, (3, side, side)).transpose(1, 2, 0)
    return strip


def _draw(rows: list[np.ndarray], names: list[str], title: str, path: Path) -> None:
    sheet = np.concatenate(rows)
    cell = rows[0].shape[0]
    width, height = sheet.shape[1] / cell * PER_INCH, len(rows) * PER_INCH
    margin, head = 0.085 * max(len(name) for name in names) + 0.2, 0.4
    figure = Figure(figsize=(max(width + margin, 0.085 * len(title) + 0.3), height + head), dpi=160)
    FigureCanvasAgg(figure)
    across, up = figure.get_size_inches()
    axes = figure.add_axes((margin / across, 0, width / across, height / up))
    axes.imshow(sheet, interpolation="nearest", aspect="auto")
    axes.set_yticks([(row + 0.5 - GAP / 2) * cell for row in range(len(rows))], names, fontsize=8)
    axes.set_xticks([])
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    figure.text(0.1 / across, 1 - 0.26 / up, title, fontsize=9, weight="bold")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
