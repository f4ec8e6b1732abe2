"""A contact sheet of answers: one HTML file that loads nothing."""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

from PIL import Image

from metavision.classify.pictures import data_url
from metavision.classify.rendering import rendered
from metavision.classify.streaming import UNKNOWN, Answer
from metavision.data.decode import Decoder

MOST, SKIPPED = 300, 50  # images, and files that could not be read, that are shown
SIDE = 112  # of a thumbnail, in pixels


@dataclass
class Sheet:
    """Collects answers; of many it keeps a sample, the same for the same files in whatever order."""

    seen: Counter[str] = field(default_factory=Counter)
    bad: list[Answer] = field(default_factory=list)
    kept: list[tuple[int, str, Answer]] = field(default_factory=list)

    def add(self, answer: Answer) -> None:
        if answer.error:
            self.seen[""] += 1
            self.bad = [*self.bad, answer][:SKIPPED]
            return
        self.seen[answer.prediction] += 1
        place = int.from_bytes(blake2b(answer.file.encode(errors="surrogateescape"), digest_size=8).digest())
        item = (-place, answer.file, answer)
        if len(self.kept) < MOST:
            heapq.heappush(self.kept, item)
        else:
            heapq.heappushpop(self.kept, item)

    def page(self, title: str, note: str) -> str:
        """The whole file: `unknown` first, then by class, within a class the least sure first."""
        groups: dict[str, list[Answer]] = defaultdict(list)
        for _, _, answer in self.kept:
            groups[answer.prediction].append(answer)
        order = sorted(groups, key=lambda name: (name != UNKNOWN, name))
        total = sum(self.seen.values()) - self.seen[""]
        return rendered(
            "sheet.html",
            title=title,
            note=note,
            total=total,
            shown=len(self.kept),
            groups=[(name, self.seen[name], list(_cards(groups[name]))) for name in order],
            bad=self.bad,
            skipped=self.seen[""],
            unknown=UNKNOWN,
            side=SIDE,
        )


def _cards(answers: list[Answer]) -> Iterator[tuple[Answer, str]]:
    for answer in sorted(answers, key=lambda one: (one.top[0][1], one.file)):
        yield answer, _thumbnail(Path(answer.file))


def _thumbnail(path: Path) -> str:
    """As a data URL; empty where the file has gone since."""
    try:
        pixels = Decoder(SIDE)(path)
    except ValueError:
        return ""
    return data_url(Image.fromarray(pixels.transpose(1, 2, 0)))
