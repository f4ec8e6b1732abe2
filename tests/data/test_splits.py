"""The frozen class lists: counts of the literature, disjointness, equality with published lists where at hand."""

import csv
import gzip
import io
import json
import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from metavision.data.imageset import SPLITS, frozen, frozen_lines
from metavision.data.sources.cifar100 import coarse

LISTS = Path(os.environ.get("METAVISION_LISTS", "nowhere"))
published = pytest.mark.skipif(not LISTS.is_dir(), reason="METAVISION_LISTS is no folder of published lists")

COUNTS = {  # as the papers give them
    "miniimagenet-ravi": (64, 16, 20),
    "miniimagenet-vinyals": (60, 20, 20),
    "tieredimagenet": (351, 97, 160),
    "cifarfs": (64, 16, 20),
    "fc100": (60, 20, 20),
    "cub-closerlook": (100, 50, 50),
    "cub-feat": (100, 50, 50),
    "cub-easyfsl": (140, 30, 30),
    "omniglot-vinyals": (1028, 172, 423),
}


@pytest.mark.parametrize("name", COUNTS)
def test_counts_and_disjointness(name: str) -> None:
    lists = frozen(name)
    assert tuple(len(lists[split]) for split in SPLITS) == COUNTS[name]
    assert len(set().union(*lists.values())) == sum(COUNTS[name])


def test_groups_do_not_cross_splits_where_the_paper_says_so() -> None:
    categories = {split: {line.split()[1] for line in lines} for split, lines in frozen_lines("tieredimagenet").items()}
    assert [len(categories[split]) for split in SPLITS] == [20, 6, 8]
    superclasses = {split: {coarse()[name] for name in names} for split, names in frozen("fc100").items()}
    assert [len(superclasses[split]) for split in SPLITS] == [12, 4, 4]
    for groups in (categories, superclasses):
        assert len(set().union(*groups.values())) == sum(map(len, groups.values()))
    assert len(coarse()) == 100 and len(set(coarse().values())) == 20


def test_the_birds_of_one_split_leak_into_another() -> None:
    """A known trap: 12 of easyfsl's 30 test classes are among FEAT's training classes."""
    assert len(set(frozen("cub-feat")["train"]) & set(frozen("cub-easyfsl")["test"])) == 12


def test_closerlooks_birds_go_by_their_number() -> None:
    numbers = {split: {int(name[:3]) - 1 for name in names} for split, names in frozen("cub-closerlook").items()}
    assert numbers["train"] == {n for n in range(200) if n % 2 == 0}
    assert numbers["val"] == {n for n in range(200) if n % 4 == 1}


def table(path: Path) -> Iterable[list[str]]:
    text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
    return [row for row in csv.reader(io.StringIO(text)) if row]


@published
@pytest.mark.parametrize("split", SPLITS)
def test_equals_the_published_lists(split: str) -> None:
    def ours(name: str) -> set[str]:
        return set(frozen(name)[split])

    def load(path: str) -> object:
        return json.loads((LISTS / path).read_text())

    for name, folder in (
        ("miniimagenet-ravi", "mini_imagenet_ravi"),
        ("miniimagenet-vinyals", "mini_imagenet_vinyals"),
    ):
        assert ours(name) == {row[1] for row in list(table(LISTS / folder / f"{split}.csv.gz"))[1:]}
    tiered = {tuple(line.split()) for line in frozen_lines("tieredimagenet")[split]}
    assert tiered == {tuple(row) for row in table(LISTS / f"tiered_imagenet/{split}.csv")}
    assert ours("cifarfs") == {fine for _, fine in load(f"cifar_fs/{split}.json")}  # type: ignore[attr-defined]
    assert {coarse()[name] for name in ours("fc100")} == set(load(f"fc100/{split}.json"))  # type: ignore[call-overload]
    assert ours("cub-closerlook") == set(load(f"cub/torchmeta_{split}.json"))  # type: ignore[call-overload]
    assert ours("cub-easyfsl") == set(load(f"cub/easyfsl_{split}.json")["class_names"])  # type: ignore[index]
    assert ours("cub-feat") == {row[1] for row in list(table(LISTS / f"cub/feat_{split}.csv.gz"))[1:]}
    assert ours("omniglot-vinyals") == set((LISTS / f"omniglot_vinyals/{split}.txt").read_text().split())
