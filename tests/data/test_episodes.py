"""Episodes are pure functions of their key, and fair."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from metavision.data.augment.base import Compose
from metavision.data.augment.colour import ColorJitter
from metavision.data.augment.crop import RandomCrop
from metavision.data.augment.flip import RandomHorizontalFlip
from metavision.data.batches import Augment, Episodes
from metavision.data.draws import distinct
from metavision.data.enumeration import Enumeration
from metavision.data.episodes import Draw, EpisodeSampler, Rows
from metavision.data.guard import disjoint
from metavision.data.images import Images
from metavision.data.minibatches import Minibatches
from metavision.data.resident import resident
from metavision.data.scaling import UNIT, Scaling
from metavision.data.source import Source
from metavision.data.sources.mixture import Mixture
from metavision.data.spec import EpisodeSpec
from metavision.errors import InputError
from tests.conftest import toy_source

SPEC = EpisodeSpec(5, 2, 3)


class Unreadable:
    """Stands where the pixels are; nobody may look."""

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"the sampler looked at the pixels: {name}")


def sampler(seed: int = 0, spec: EpisodeSpec = SPEC) -> EpisodeSampler:
    return EpisodeSampler(toy_source(), spec, seed=seed)


def parts(draw: Draw) -> Iterator[Rows]:
    yield from (rows for rows in draw[:3] if rows is not None)


def images_of(draw: Draw) -> np.ndarray:
    """All images of an episode, support, query and unlabelled."""
    return np.concatenate([rows.image if rows.mask is None else rows.image[rows.mask] for rows in parts(draw)])


SPECS = {
    "fixed": EpisodeSpec(5, 2, 3),
    "uniform": EpisodeSpec(5, 4, 3, sizes="uniform", way_min=2, shot_min=2),
    "meta_dataset": EpisodeSpec(6, 5, 3, sizes="meta_dataset", way_min=3),
    "unbalanced": EpisodeSpec(4, 1, 2, balance=2.0),
    "semi-supervised": EpisodeSpec(3, 1, 2, unlabelled=4, distractors=2),
    "within": EpisodeSpec(3, 1, 2, hierarchy="within"),
    "across": EpisodeSpec(3, 1, 2, hierarchy="across"),
    "all": EpisodeSpec(3, 2, 2, "uniform", 2, 1, 1.5, 1, 1, "within"),
}


def grouped() -> Source:
    """Nine classes in groups of four, four and one."""
    return replace(toy_source(classes=9), groups=("a", "b") * 4 + ("c",))


@pytest.mark.parametrize("name", SPECS)
def test_an_episode_is_the_same_alone_in_any_batch_and_order(name: str) -> None:
    numbers = [7, 3, 100000, 0]
    episodes = EpisodeSampler(grouped(), SPECS[name], seed=0)
    batch = episodes[numbers]
    for t, i in enumerate(numbers):
        alone = episodes[i]
        np.testing.assert_array_equal(alone.classes, batch.classes[t])
        for ours, theirs in zip(parts(alone), parts(batch), strict=True):
            kept = slice(None) if theirs.mask is None else theirs.mask[t]
            np.testing.assert_array_equal(ours.image, theirs.image[t][kept])
            np.testing.assert_array_equal(ours.label, theirs.label[t][kept])


@pytest.mark.parametrize("name", SPECS)
def test_composition(name: str) -> None:
    source, spec = grouped(), SPECS[name]
    episodes = EpisodeSampler(source, spec, seed=0)
    ways, shots = set(), set()
    for i in range(200):
        draw = episodes[i]
        used = images_of(draw)
        assert len(set(used)) == len(used)  # without replacement
        for rows in (draw.support, draw.query):
            assert (source.labels[rows.image] == draw.classes[rows.label]).all()
        support, query = (np.bincount(rows.label, minlength=spec.way) for rows in (draw.support, draw.query))
        way = (support > 0).sum()
        assert (support[:way] > 0).all() and not query[way:].any()  # labels 0 to way - 1, and only these are asked for
        ways.add(int(way))
        shots.add(int(support.max()))
        labelled = draw.classes[:way]
        assert len(set(labelled)) == way
        if draw.unlabelled is not None:
            of_class = source.labels[draw.unlabelled.image]
            assert set(of_class) == set(draw.classes[draw.classes >= 0])
            assert (np.bincount(of_class)[list(set(of_class))] == spec.unlabelled).all()
            assert ((draw.unlabelled.label == -1) == ~np.isin(of_class, labelled)).all()
            assert (draw.unlabelled.label == -1).sum() == spec.unlabelled * spec.distractors
        groups = [source.groups[c] for c in draw.classes[draw.classes >= 0]]
        if spec.hierarchy != "any":
            assert len(set(groups)) == (1 if spec.hierarchy == "within" else len(groups))
    if spec.sizes == "fixed":
        assert ways == {spec.way} and shots == {spec.shot}
    elif spec.sizes == "uniform":
        assert ways == set(range(spec.way_min, spec.way + 1)) and shots == set(range(spec.shot_min, spec.shot + 1))
    else:
        assert ways == set(range(spec.way_min, spec.way + 1)) and len(shots) > 2


def test_balance_is_dirichlets() -> None:
    """Shares of the queries: mean 1/k, and the variance (k - 1) / k^2 / (k alpha + 1), in the limit of many queries."""
    sizes = EpisodeSampler(toy_source(8, 600, size=2), EpisodeSpec(4, 1, 100, balance=2.0), seed=0)[range(2000)].query
    share = np.stack([((sizes.label == c) & (True if sizes.mask is None else sizes.mask)).mean(1) for c in range(4)])
    np.testing.assert_allclose(share.sum(0), 1)
    np.testing.assert_allclose(share.mean(1), 0.25, atol=0.01)
    np.testing.assert_allclose(share.var(1), 3 / 16 / 9, rtol=0.1)


def test_meta_datasets_supports_are_bounded_and_unbalanced() -> None:
    source = toy_source(classes=60, images=150, size=2)
    draw = EpisodeSampler(source, EpisodeSpec(50, 100, 10, sizes="meta_dataset", way_min=5), seed=0)[range(300)]
    assert draw.support.mask is not None
    sizes = draw.support.mask.sum(1)
    assert sizes.max() <= 500 and sizes.min() < 50
    per_class = np.bincount(draw.support.label[0][draw.support.mask[0]])
    assert per_class.max() <= 100 and per_class.min() >= 1 and len(set(per_class)) > 1
    queries = np.bincount(draw.query.label[0][draw.query.mask[0] if draw.query.mask is not None else slice(None)])
    assert (queries == 10).all()


def test_a_mixture_draws_each_episode_from_one_part() -> None:
    source = replace(grouped(), mixed=True, groups=("a",) * 6 + ("b",) * 3)
    classes = EpisodeSampler(source, EpisodeSpec(3, 1, 2), seed=0)[range(4000)].classes
    of_a = (classes < 6).all(1)
    assert (of_a | (classes >= 6).all(1)).all()
    assert chisquare([of_a.sum(), (~of_a).sum()]).pvalue > 1e-4  # parts have the same chance, whatever their size


@pytest.mark.parametrize("spec", [EpisodeSpec(3, 2, 3), EpisodeSpec(5, 1, 1)])
def test_an_enumeration_uses_an_image_once_and_nearly_all(spec: EpisodeSpec) -> None:
    source = toy_source(classes=8, images=11)
    episodes = Enumeration(source, spec, seed=0)
    used: list[int] = []
    for i in range(len(episodes)):
        draw = episodes[i]
        assert (source.labels[draw.query.image] == draw.classes[draw.query.label]).all()
        assert len(set(draw.classes)) == spec.way
        assert draw.support.image.shape == (spec.way * spec.shot,)
        used += images_of(draw).tolist()
    assert len(set(used)) == len(used)
    each = spec.shot + spec.query
    assert len(episodes) >= 8 * (11 // each) // spec.way - 1
    with pytest.raises(IndexError):
        episodes[len(episodes)]


def test_an_enumeration_refuses_what_it_cant_do() -> None:
    with pytest.raises(InputError, match="need 20 images of each of 3 classes; toy train has 0 such"):
        Enumeration(toy_source(), EpisodeSpec(3, 5, 15), seed=0)
    with pytest.raises(InputError, match="fixed sizes, without balance=2"):
        Enumeration(toy_source(), EpisodeSpec(3, 1, 2, balance=2.0), seed=0)


def test_streams_differ_by_seed_split_and_spec() -> None:
    a = sampler()[range(20)].classes
    assert (a != sampler(seed=1)[range(20)].classes).any()
    val = EpisodeSampler(replace(toy_source(), split="val"), SPEC, seed=0)
    assert (a != val[range(20)].classes).any()
    assert (a != sampler(spec=EpisodeSpec(5, 1, 3))[range(20)].classes).any()


def test_classes_labels_and_images_are_uniform() -> None:
    draw = sampler()[range(8000)]
    for label in range(5):  # no class has a favourite label
        assert chisquare(np.bincount(draw.classes[:, label], minlength=8)).pvalue > 1e-4
    assert chisquare(np.bincount(draw.support.image[:, ::2].ravel(), minlength=80)).pvalue > 1e-4


def test_draws_are_a_shuffles_first_places() -> None:
    """Against the shuffle written as a loop that stores its places."""
    rng = np.random.default_rng(0)
    words = rng.integers(0, 2**63, (300, 6), dtype=np.uint64)
    population = rng.integers(6, 12, (300, 1))
    ours = distinct(words, population)
    for row in range(300):
        places = list(range(population[row, 0]))
        for j in range(6):
            other = j + int(words[row, j]) % (len(places) - j)
            places[j], places[other] = places[other], places[j]
        assert ours[row].tolist() == places[:6]


def test_no_pixel_is_read() -> None:
    source = toy_source()
    _ = source.fingerprint, source.by_class
    object.__setattr__(source, "images", Unreadable())
    assert EpisodeSampler(source, SPEC, seed=0)[0].support.image.shape == (10,)
    assert len(Enumeration(source, SPEC, seed=0)) == 3


@pytest.mark.parametrize(
    ("spec", "message"),
    [((9, 1, 1), "9 classes; toy train has 8"), ((5, 8, 3), "11 images a class; class class 0 of toy train has 10")],
)
def test_too_much_asked(spec: tuple[int, int, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        sampler(spec=EpisodeSpec(*spec))


@pytest.mark.parametrize("spec", [(0, 1, 1), (5, 0, 1), (5, -1, 1), (5, 1, 0)])
def test_impossible_compositions(spec: tuple[int, int, int]) -> None:
    with pytest.raises(InputError, match="needs at least"):
        EpisodeSpec(*spec)


def images(source: Source) -> Images:
    return Images(resident(source, torch.device("cpu")))


def episodes_of(source: Source, spec: EpisodeSpec = SPEC, **options: Any) -> Episodes:
    return Episodes(EpisodeSampler(source, spec, seed=0), images(source), **options)


def test_batches_hold_the_drawn_pixels() -> None:
    source, draws = toy_source(), sampler()[[4, 2]]
    batch = episodes_of(source).batch([4, 2])
    assert batch.support.x.shape == (2, 10, 1, 16, 16) and batch.query.x.shape == (2, 15, 1, 16, 16)
    expected = torch.from_numpy(source.read(draws.query.image.reshape(-1))).float() / 255
    assert torch.equal(batch.query.x, expected.view(2, 15, 1, 16, 16))
    assert batch.query.y.tolist() == [[0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]] * 2
    assert batch.unlabelled is None


def test_batches_of_unlike_episodes_are_padded() -> None:
    batch = episodes_of(toy_source(), SPECS["uniform"]).batch(range(8))
    assert batch.support.mask is not None and not batch.support.mask.all()
    assert batch.support.x.shape[:2] == batch.support.mask.shape == batch.support.y.shape
    unlabelled = episodes_of(toy_source(), SPECS["semi-supervised"]).batch([0]).unlabelled
    assert unlabelled is not None and unlabelled.x.shape == (1, 20, 1, 16, 16)


def test_scaling_is_by_the_moments_of_the_pixels() -> None:
    source = toy_source(channels=3)
    x = source.read(slice(None)).astype(np.float64) / 255
    scaling = Scaling.of(source)
    np.testing.assert_allclose(scaling.mean, x.mean((0, 2, 3)), atol=1e-9)
    np.testing.assert_allclose(scaling.std, x.std((0, 2, 3)), atol=1e-9)
    pixels = torch.from_numpy(source.read(slice(0, 5)))
    expected = (x[:5] - x.mean((0, 2, 3), keepdims=True)) / x.std((0, 2, 3), keepdims=True)
    np.testing.assert_allclose(scaling(pixels).numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(scaling.standardised(UNIT(pixels)).numpy(), expected, atol=1e-5)


def test_every_residence_gives_the_same_images(monkeypatch: pytest.MonkeyPatch) -> None:
    source = replace(toy_source(), rows=np.arange(80)[::-1].copy())
    cpu, index = torch.device("cpu"), np.array([3, 70, 3, 0])
    held, mapped = resident(source, cpu), resident(source, cpu, budget=100)
    assert (held.where, mapped.where) == ("in memory", "in a memory map")
    assert torch.equal(held.take(index), torch.from_numpy(source.images[79 - index]))
    assert torch.equal(mapped.take(index), held.take(index))


AUGMENTS = {
    "support": Augment(support=Compose([RandomCrop(padding=2), ColorJitter(0.4, 0.4, 0.4)])),
    "query": Augment(query=RandomHorizontalFlip()),
    "turned": Augment(turn_classes=True),
    "mixed": Augment(mix=0.5),
}


@pytest.mark.parametrize("name", AUGMENTS)
def test_augmented_episodes_are_functions_of_their_number(name: str) -> None:
    plain, augmented = episodes_of(toy_source()), episodes_of(toy_source(), augment=AUGMENTS[name])
    batch, alone = augmented.batch([5, 9, 2]), augmented.batch([9])
    for part in ("support", "query"):
        ours, theirs, before = (getattr(e, part) for e in (alone, batch, plain.batch([9])))
        torch.testing.assert_close(ours.x[0], theirs.x[1])
        assert torch.equal(ours.y, before.y)
        changed = name in (part, "turned", "mixed")
        assert torch.equal(ours.x, before.x) != changed
    if name == "support":  # images of an episode, and episodes, have numbers of their own
        assert not torch.equal(augmented.batch([9]).support.x, augmented.batch([10]).support.x)


def test_mixed_episodes_must_be_of_one_size() -> None:
    with pytest.raises(InputError, match="sizes=fixed"):
        episodes_of(toy_source(), SPECS["uniform"], augment=AUGMENTS["mixed"])


def test_classes_in_two_splits_are_refused() -> None:
    train, test = toy_source(), replace(toy_source(), split="test")
    with pytest.raises(InputError, match="8 classes of toy are in train and in test, such as toy:class 0"):
        disjoint({"train": train, "test": test})
    disjoint({"train": replace(train, shared=True), "test": replace(test, shared=True)})


class Parted(NamedTuple):
    """A data set of given sources."""

    sources: dict[str, Source]
    shape: tuple[int, int, int] = (1, 8, 8)

    def source(self, split: str) -> Source:
        return self.sources[split]


def mixed(**others: tuple[str, str]) -> dict[str, Source]:
    """Training and test of a set that is split by images, mixed with others by their names in either."""
    digits = replace(toy_source(), name="digits", shared=True)
    parts = {"digits": Parted({"train": digits, "test": digits})}
    for part, (train, test) in others.items():
        parts[part] = Parted({"train": replace(toy_source(), name=train), "test": replace(toy_source(), name=test)})
    mixture = Mixture(parts=parts)
    return {split: mixture.source(split) for split in ("train", "test")}


def test_what_one_part_shares_switches_off_no_check_of_the_others() -> None:
    disjoint(mixed(birds=("jays", "owls")))
    with pytest.raises(InputError, match="8 classes of mixture are in train and in test, such as birds:class 0"):
        disjoint(mixed(birds=("birds", "birds")))
    with pytest.raises(InputError, match="such as birds:class 0"):
        disjoint(mixed(birds=("jays", "birds"), others=("birds", "owls")))
    with pytest.raises(InputError, match="such as digits:class 0"):  # new to a part, and not to the network
        disjoint(mixed(letters=("letters", "digits")))
    test = mixed(birds=("jays", "owls"))["test"]
    assert not test.shared and test.new_hashes == replace(toy_source(), name="owls").class_hashes
    assert mixed()["test"].shared and mixed()["test"].new_hashes == []


def test_an_epoch_of_minibatches_shows_every_image_once() -> None:
    source = replace(toy_source(), labels=np.arange(80) // 10)
    batches = Minibatches(source, images(source), 12, seed=0)
    assert batches.epoch == 6
    pixels = torch.from_numpy(source.read(slice(None))).float() / 255
    orders = []
    for epoch in range(2):
        shown = []
        for i in range(6 * epoch, 6 * epoch + 6):
            x, y, _ = batches[i]
            found = [int((pixels == image).flatten(1).all(1).nonzero()) for image in x]
            assert y.tolist() == source.labels[found].tolist()
            shown += found
        assert len(set(shown)) == 72
        orders.append(shown)
    assert orders[0] != orders[1]
    again = Minibatches(source, images(source), 12, seed=0)
    assert torch.equal(again[8].x, batches[8].x)  # whatever was asked before
    assert not torch.equal(Minibatches(source, images(source), 12, seed=1)[8].x, batches[8].x)
    augmented = Minibatches(source, images(source), 12, seed=0, augmentation=RandomCrop(padding=2))
    assert not torch.equal(augmented[8].x, batches[8].x) and torch.equal(augmented[8].x, augmented[8].x)
    with pytest.raises(InputError, match="batches of 81 can't be had of the 80 images of toy train"):
        Minibatches(source, images(source), 81, seed=0)


def test_an_episode_of_varied_size_is_the_same_alone_and_in_company() -> None:
    """Also where it lacks classes, which its support says by a mask."""
    spec = EpisodeSpec(5, 2, 2, sizes="uniform")
    sampler = EpisodeSampler(toy_source(), spec, seed=0)
    for i in range(8):
        alone, together = sampler[[i]].support, sampler[range(8)].support
        assert alone.mask is not None and together.mask is not None
        for ours, theirs in ((alone.image, together.image), (alone.label, together.label)):
            np.testing.assert_array_equal(ours[0][alone.mask[0]], theirs[i][together.mask[i]])
