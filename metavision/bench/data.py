"""Episodes a second from image data: ours, learn2learn's Taskset and easyfsl's sampler with a DataLoader.

Peers run as their READMEs have them: a PIL image an item, torchvision's transforms. All run in this process, on one
thread, in turns; what is timed is process CPU time (wall time on a GPU). 84 x 84, 5-way 5-shot 15-query.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import transforms

from metavision.adapters import easyfsl, learn2learn
from metavision.bench.timing import interleaved
from metavision.data.ahead import BLOCK
from metavision.data.augment.base import Augmentation, Compose
from metavision.data.augment.colour import ColorJitter
from metavision.data.augment.crop import RandomCrop
from metavision.data.augment.flip import RandomHorizontalFlip
from metavision.data.batches import Augment, Episodes
from metavision.data.episodes import EpisodeSampler
from metavision.data.images import Images
from metavision.data.resident import resident
from metavision.data.scaling import Scaling
from metavision.data.source import Source
from metavision.data.sources.folder import ImageFolder
from metavision.data.spec import EpisodeSpec
from metavision.errors import InputError

SPEC = EpisodeSpec(5, 5, 15)
CLASSES, IMAGES, SIZE = 64, 150, 84  # about 200 MB of pixels, more than caches hold
MEAN, STD = (0.473, 0.427, 0.373), (0.269, 0.266, 0.269)
TASKS = 4  # of ours at a time, as in MAML's meta-batches on mini-ImageNet
ROUNDS = 9
JITTER = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4}

Row = dict[str, Any]
Transform = Callable[[Image.Image], Tensor]


class Files(Dataset[tuple[Any, int]]):
    """Image files opened when they are asked for."""

    def __init__(self, paths: Sequence[Path], labels: Sequence[int], transform: Transform) -> None:
        self.paths, self.labels, self.transform = paths, labels, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        with Image.open(self.paths[i]) as image:
            return self.transform(image.convert("RGB")), self.labels[i]

    def get_labels(self) -> list[int]:
        """For easyfsl."""
        return list(self.labels)


class Decoded(Files):
    """The same, decoded before: a PIL image is made of an array."""

    def __init__(self, images: np.ndarray, labels: Sequence[int], transform: Transform) -> None:
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[i])), self.labels[i]


class Tensors(Files):
    """The same, as tensors of bytes."""

    def __init__(self, images: np.ndarray, labels: Sequence[int]) -> None:
        self.images, self.labels = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()), labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.images[i], self.labels[i]


def rows(device: torch.device) -> Iterator[Row]:
    """Of each kind of work: milliseconds an episode of every contender, and what the best peer takes over ours."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="metavision-bench-") as folder:
        paths = _written(Path(folder))
        source = ImageFolder(path=folder, split="none", size=SIZE).source("test")
        labels = source.labels.tolist()
        pixels = source.read(slice(None)).transpose(0, 2, 3, 1).copy()
        photo = Compose([RandomCrop(padding=8), ColorJitter(**JITTER), RandomHorizontalFlip()])
        to_bytes, to_numbers = transforms.PILToTensor(), transforms.ToTensor()
        scaled = transforms.Compose([to_numbers, transforms.Normalize(MEAN, STD)])
        photo_of_pil = [transforms.RandomCrop(SIZE, padding=8), transforms.ColorJitter(**JITTER)]
        augmented = transforms.Compose([*photo_of_pil, transforms.RandomHorizontalFlip(), scaled])
        scaling = Scaling(MEAN, STD)
        works: list[tuple[str, Callable[[], Dataset[Any]], Scaling | None, Augmentation | None]] = [
            ("to uint8", partial(Files, paths, labels, to_bytes), None, None),
            ("normalised", partial(Files, paths, labels, scaled), scaling, None),
            ("crop, jitter, flip", partial(Files, paths, labels, augmented), scaling, photo),
            ("to uint8, decoded before", partial(Decoded, pixels, labels, to_bytes), None, None),
            ("normalised, decoded before", partial(Decoded, pixels, labels, scaled), scaling, None),
            ("crop, jitter, flip, decoded before", partial(Decoded, pixels, labels, augmented), scaling, photo),
            ("raw uint8 tensors", partial(Tensors, pixels, labels), None, None),
        ]
        for name, dataset, to, augmentation in works:
            yield _row(name, dataset(), labels, _ours(source, device, to, augmentation), device)


def _row(name: str, dataset: Any, labels: list[int], ours: Callable[[], object], device: torch.device) -> Row:
    peers: dict[str, Callable[[], object]] = {}
    missing: dict[str, str] = {}
    makers = {
        "learn2learn": lambda: learn2learn.episodes(dataset, labels, SPEC.way, SPEC.shot, SPEC.query),
        "easyfsl": lambda: easyfsl.episodes(dataset, SPEC.way, SPEC.shot, SPEC.query),
    }
    for peer, make in makers.items():
        try:
            tasks = make()
            next(tasks)
        except InputError as error:
            missing[peer] = str(error)
            continue
        peers[peer] = partial(_on_device, tasks, device)
    clock = time.process_time if device.type == "cpu" else partial(_synchronised, device)
    seconds = interleaved({"metavision": ours, **peers}, ROUNDS, clock)
    seconds["metavision"] /= BLOCK
    return {
        "work": name,
        **{f"{who} ms": 1000 * value for who, value in seconds.items()},
        **({"ratio": min(seconds[peer] for peer in peers) / seconds["metavision"]} if peers else {}),
        "missing": missing,
    }


def _on_device(tasks: Iterator[Any], device: torch.device) -> Any:
    return [part.to(device) if isinstance(part, Tensor) else part for part in next(tasks)]


def _synchronised(device: torch.device) -> float:
    torch.cuda.synchronize(device)
    return time.perf_counter()


def _ours(
    source: Source, device: torch.device, scaling: Scaling | None, augmentation: Augmentation | None
) -> Callable[[], object]:
    """A block of episodes, batch by batch: what is drawn together, so that every call draws, as those of peers do."""
    sampler = EpisodeSampler(source, SPEC, seed=0)
    augment = Augment(support=augmentation, query=augmentation)
    episodes = Episodes(sampler, Images(resident(source, device), scaling), augment)
    numbers = count()

    def work() -> None:
        first = next(numbers) * BLOCK
        for start in range(first, first + BLOCK, TASKS):
            episodes.batch(range(start, start + TASKS))

    return work


def _written(folder: Path) -> list[Path]:
    """JPEG files that look somewhat like photographs, in folders by class."""
    rng = np.random.default_rng(0)
    paths = []
    for c in range(CLASSES):
        (folder / f"class {c:02d}").mkdir()
        for i in range(IMAGES):
            coarse = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
            fine = np.asarray(coarse.resize((SIZE, SIZE), Image.Resampling.BICUBIC)).astype(np.int16)
            noisy = (fine + rng.integers(-12, 13, fine.shape)).clip(0, 255).astype(np.uint8)
            paths.append(folder / f"class {c:02d}" / f"{i:03d}.jpg")
            Image.fromarray(noisy).save(paths[-1], quality=85)
    return paths
