"""A data set of tiered-ImageNet's size: its preparation and training, and the memory they take.

Writes 779,165 images of 84 x 84 as JPEG files in 608 class folders (3 GB), runs `metavision train data=folder` on them,
which packs them first (16.5 GB in the cache), and prints the time and the most anonymous memory that was resident, as
the kernel counts it (RssAnon; pages of the memory map are the system's to keep or drop).
"""

import argparse
import re
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES, IMAGES, SIZE = 608, 779_165, 84
TRAIN = "data=folder algo=protonet budget=smoke references=[] logger=none engine.threads=2 rerun=true"


def write_class(folder: Path, c: int, images: int) -> None:
    """Parts of a texture of the class's own colours."""
    done = folder / f"class {c:03d}"
    if done.is_dir() and len(list(done.iterdir())) == images:
        return
    done.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(c)
    coarse = Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8))
    texture = np.asarray(coarse.resize((1024, 1024), Image.Resampling.BICUBIC))
    for i, (top, left) in enumerate(rng.integers(0, 1024 - SIZE, (images, 2))):
        file = BytesIO()
        Image.fromarray(texture[top : top + SIZE, left : left + SIZE]).save(file, "JPEG", quality=75)
        (done / f"{i:04d}.jpg").write_bytes(file.getvalue())


def anonymous_gib(pid: int) -> float:
    """RssAnon of a process and its children."""
    total = 0
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            text = status.read_text()
        except OSError:
            continue
        mine = status.parent.name == str(pid) or re.search(rf"^PPid:\s+{pid}$", text, re.MULTILINE)
        if mine and (found := re.search(r"^RssAnon:\s+(\d+) kB", text, re.MULTILINE)):
            total += int(found[1])
    return total / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the images go; the cache is METAVISION_CACHE")
    parser.add_argument("--images", type=int, default=IMAGES)
    given = parser.parse_args()
    sizes = np.full(CLASSES, given.images // CLASSES)
    sizes[: given.images % CLASSES] += 1
    begun = time.monotonic()
    with ProcessPoolExecutor() as pool:
        list(pool.map(write_class, [given.folder] * CLASSES, range(CLASSES), sizes.tolist()))
    print(f"{given.images:,} files written in {time.monotonic() - begun:.0f} s", flush=True)
    begun, most = time.monotonic(), 0.0
    command = [sys.executable, "-m", "metavision.cli", "train", f"data.path={given.folder}", *TRAIN.split()]
    run = subprocess.Popen(command)
    while run.poll() is None:
        most = max(most, anonymous_gib(run.pid))
        time.sleep(0.05)
    print(f"exit code {run.returncode}; packed and trained in {time.monotonic() - begun:.0f} s")
    print(f"most anonymous memory: {most:.2f} GiB")


if __name__ == "__main__":
    main()
