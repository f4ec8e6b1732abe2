"""Does the interval that `metavision adapt` prints hold the truth, and how long does the command take?

    python benchmarks/adapt.py outputs/protonet-cifarfs-1a2b3c4d/seed0 --out benchmarks/adapt.json

Draws of k test classes of the run's data set, n images each; a classifier of them; its accuracy on 40 others of each
class (200 of five classes), and on all others. How often does the interval hold these, and how wide is it beside
Clopper's and Pearson's for that number of images? Beside it stands plain leaving-one-out, which is what one would do
without thinking. The time is that of the command, on a folder of PNG files, in a process of its own.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from metavision import build
from metavision.classify import estimate
from metavision.classify.heads import KINDS
from metavision.classify.heads.base import Head
from metavision.classify.heads.own import Own
from metavision.classify.holding_out import held_out
from metavision.classify.intervals import clopper_pearson
from metavision.classify.network import Network
from metavision.data.source import Source
from metavision.engine import checkpoint
from metavision.records.provenance import provenance

ASKED = 40  # images of each class
SOLVED = ("prototypes", "ridge")  # heads quick enough to be fitted without each single image
SETTINGS = ((5, 5), (5, 2), (5, 10), (2, 5), (10, 5))  # classes, images of each


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    network = Network.of_run(asked.run, torch.device("cpu"))
    source = build.dataset(checkpoint.read(checkpoint.find(asked.run)).about["config"]).source("test")
    features = embedded(network, source)
    heads = [KINDS["prototypes"](), KINDS["ridge"](), Own.of(network.algorithm, network.meta)]
    cases = [(k, n, head) for k, n in SETTINGS for head in heads] + [(*SETTINGS[0], KINDS["logistic"]())]
    found = {
        "run": network.about["run"],
        "data": source.name,
        "draws": asked.draws,
        "command": commanded(asked.run, source),
        "rows": [row(features, head, k, n, asked.draws) for k, n, head in cases],
        "provenance": {name: value for name, value in provenance().items() if name != "command"},  # which has paths
    }
    if asked.out:
        asked.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def embedded(network: Network, source: Source) -> list[torch.Tensor]:
    """The features of every class."""
    order, start, count = source.by_class
    rows = [order[start[c] : start[c] + count[c]] for c in range(len(source.classes))]
    return [network.features(torch.from_numpy(source.read(some))) for some in rows]


def row(features: list[torch.Tensor], head: Head, k: int, n: int, draws: int) -> dict[str, object]:
    """Coverage and width for k classes of n images."""
    generator = np.random.default_rng([k, n])
    y = torch.arange(k).repeat_interleave(n)
    found = []
    for _ in range(draws):
        classes = generator.choice(len(features), k, replace=False)
        members = [features[c][generator.permutation(len(features[c]))] for c in classes]
        x = torch.cat([z[:n] for z in members])
        suited = head.suited(x)
        task = suited.fit(x, y, k)
        out = held_out(suited, x, y, k)
        assert out is not None
        told = estimate.accuracy(out, y)
        plain = clopper_pearson(told["accuracy"] * k * n, k * n)
        alone = leave_one_out(suited, x, y, k) if head.name in SOLVED else float("nan")
        lone = clopper_pearson(alone * k * n, k * n)
        some, rest = (right(suited, task, [z[n:stop] for z in members]) for stop in (n + ASKED, None))
        found.append(
            {
                "estimate": told["accuracy"],
                "asked": some,
                "true": rest,
                "held": told["low"] <= some <= told["high"],
                "held_true": told["low"] <= rest <= told["high"],
                "width": told["high"] - told["low"],
                "held_plain": plain[0] <= some <= plain[1],
                "width_plain": plain[1] - plain[0],
                "alone": alone,
                "held_alone": lone[0] <= some <= lone[1],
            }
        )
    means = {name: float(np.mean([one[name] for one in found])) for name in found[0]}
    means = {name: value for name, value in means.items() if head.name in SOLVED or "alone" not in name}
    means["ratio"] = means["width"] / means["width_plain"]
    lone = f"; one left out {means['alone']:.3f}, held {means['held_alone']:.2f}" if head.name in SOLVED else ""
    print(
        f"{k:2} x {n:2} {head.name:10} estimate {means['estimate']:.3f} true {means['true']:.3f} "
        f"held {means['held']:.2f} ({means['held_true']:.2f} of all others) width {means['width']:.3f} = "
        f"{means['ratio']:.2f} of Clopper-Pearson's, which held {means['held_plain']:.2f}{lone}",
        flush=True,
    )
    return {"classes": k, "shot": n, "head": head.name, **means}


def leave_one_out(head: Head, x: torch.Tensor, y: torch.Tensor, k: int) -> float:
    """The share told right of images that are left out one by one."""
    hits = 0
    for i in range(len(y)):
        kept = torch.arange(len(y)) != i
        hits += int(head.logits(head.fit(x[kept], y[kept], k), x[i : i + 1]).argmax(1) == y[i])
    return hits / len(y)


def right(head: Head, task: object, members: list[torch.Tensor]) -> float:
    """The share told right of the images of each class."""
    y = torch.arange(len(members)).repeat_interleave(torch.tensor([len(z) for z in members]))
    return float((head.logits(task, torch.cat(members)).argmax(1) == y).double().mean())


def commanded(run: Path, source: Source) -> dict[str, float]:
    """Seconds of `adapt` on 5 x 5 PNG files and of `predict` on 200, from the command to its end, waiting included."""
    order, start, _ = source.by_class
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        for c in range(5):
            for i, image in enumerate(source.read(order[start[c] : start[c] + 5 + ASKED])):
                path = home / ("support" if i < 5 else "new") / source.classes[c] / f"{i:02}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image.transpose(1, 2, 0)).save(path)
        base = [sys.executable, "-m", "metavision.cli"]
        adapt = ["adapt", f"run={run.absolute()}", "support=support", "output=x.classifier", "device=cpu"]
        predict = ["predict", "x.classifier", "new", "--out", "x.csv", "--device", "cpu"]
        seconds = {}
        for words in (adapt, predict):
            began, used = time.perf_counter(), processor_time()
            subprocess.run([*base, *words], cwd=home, check=True, capture_output=True)
            seconds[f"{words[0]}_seconds"] = time.perf_counter() - began
            seconds[f"{words[0]}_processor_seconds"] = processor_time() - used
    print(", ".join(f"{name} {value:.1f}" for name, value in seconds.items()), flush=True)
    return seconds


def processor_time() -> float:
    """Of the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
