"""The letters drawn from fonts: how many, how split, no two alike, and the same again whenever they are drawn."""

import unicodedata
from collections.abc import Iterator
from functools import cache as remembered
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from metavision.data.source import Source
from metavision.data.sources import glyphs
from metavision.data.sources.glyph_shapes import FACES, covered, font_path
from metavision.data.sources.glyphs import DRAWINGS, SPLITS, Glyphs, drawings
from metavision.errors import InputError

Sources = dict[str, Source]


@pytest.fixture(scope="module")
def sources(cache: Path) -> Iterator[Sources]:
    """All splits, rendered once for this module; `letters` is kept too, since it is half of the work."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("METAVISION_CACHE", str(cache))
        patch.setattr(glyphs, "letters", remembered(glyphs.letters))
        yield {split: Glyphs().source(split) for split in SPLITS}


def scripts(source: Source) -> set[str]:
    return {name.split()[0] for name in source.classes}


def characters(sources: Sources) -> list[str]:
    return [unicodedata.lookup(name) for source in sources.values() for name in source.classes]


def by_class(source: Source) -> np.ndarray:
    """(classes, drawings, pixels)"""
    return source.read(slice(None)).reshape(len(source.classes), DRAWINGS, -1).astype(np.float32)


def test_there_are_a_thousand_classes_of_twenty(sources: Sources) -> None:
    assert len(characters(sources)) >= 1000
    assert len(sources["val"].classes) >= 60
    assert len(sources["test"].classes) >= 100
    for source in sources.values():
        assert source.read(slice(2)).dtype == np.uint8
        assert source.images.shape[1:] == Glyphs().shape == (1, 28, 28)
        assert len(source) == len(source.labels)
        assert (np.bincount(source.labels) == DRAWINGS).all()
        assert source.by_class[2].sum() == len(source)


def test_splits_share_no_class_and_no_script(sources: Sources) -> None:
    names = [name for source in sources.values() for name in source.classes]
    assert len(set(names)) == len(names)
    found = [script for source in sources.values() for script in scripts(source)]
    assert len(set(found)) == len(found)
    assert {"LATIN", "CYRILLIC", "CANADIAN"} <= scripts(sources["train"])
    assert {"ARABIC", "TIFINAGH"} <= scripts(sources["val"])
    assert {"GEORGIAN", "ARMENIAN", "HEBREW"} <= scripts(sources["test"])


@pytest.mark.slow
def test_every_class_is_a_letter_that_its_faces_hold(sources: Sources) -> None:
    held = covered()
    for character, faces in glyphs.letters().items():
        assert unicodedata.category(character) in ("Lu", "Ll", "Lo")
        assert faces[0] == FACES[0]
        assert set(faces) <= set(held[character])
    assert list(glyphs.letters()) == characters(sources)


@pytest.mark.parametrize("alike", ["AΑАᗅ", "OoΟοОоՕօסⵔᴑ", "CcСсϹϲᴄ", "SsЅѕꜱ", "IlІӀӏǀⵏו", "XxΧХхⵝ", "հhһႹ", "UՍᑌ"])
def test_one_shape_is_one_class(sources: Sources, alike: str) -> None:
    assert len(set(alike) & set(characters(sources))) == 1


def test_no_two_classes_look_the_same(sources: Sources) -> None:
    """By another measure than the one that chose them: is the ink of each within a pixel of the other's?

    Of half a million pairs a few come near, such as Arabic letters that differ by a dot; none agree throughout.
    """
    printed = [_printed(character) for character in characters(sources)]
    ink = np.stack([np.asarray(image, dtype=np.float32).ravel() for image in printed]) / 255
    near = [np.asarray(image.filter(ImageFilter.MaxFilter(3)), dtype=np.float32).ravel() for image in printed]
    within = ink @ np.stack(near).T / 255 / ink.sum(1, keepdims=True)
    agreement = np.triu(np.minimum(within, within.T), 1)
    assert agreement.max() < 0.999
    assert (agreement > 0.98).sum() < 20


def _printed(character: str) -> Image.Image:
    """Black and white, the longest side 24 of 28 pixels."""
    page = Image.new("L", (256, 256))
    font = ImageFont.truetype(font_path(FACES[0]), 64)
    ImageDraw.Draw(page).text((64, 64), character, fill=255, font=font)
    letter = page.crop(page.getbbox())
    letter.thumbnail((24, 24))
    printed = Image.new("L", (28, 28))
    printed.paste(letter, ((28 - letter.width) // 2, (28 - letter.height) // 2))
    return printed.point(lambda value: 255 * (value > 127))


def test_no_drawing_is_blank_or_cut_off(sources: Sources) -> None:
    for source in sources.values():
        ink = source.read(slice(None))[:, 0] > 127
        assert ink.sum((1, 2)).min() >= 6
        edge = ink[:, 0].any(1) | ink[:, -1].any(1) | ink[:, :, 0].any(1) | ink[:, :, -1].any(1)
        assert edge.mean() < 0.01


def test_drawings_differ_and_resemble_their_class(sources: Sources) -> None:
    for source in sources.values():
        images = by_class(source)
        assert len(np.unique(images.reshape(-1, images.shape[-1]), axis=0)) == len(source)
        means = images.mean(1)
        square = (images**2).sum(-1, keepdims=True) - 2 * images @ means.T + (means**2).sum(-1)
        distance = np.sqrt(square)  # (classes, drawings, classes)
        own = np.einsum("cdc->cd", distance)
        other = (distance.sum(-1) - own) / (len(means) - 1)
        assert (own < other).mean() > 0.95


def test_raw_pixels_leave_something_to_learn(sources: Sources) -> None:
    """Nearest neighbour, 5-way 1-shot, on test: far above chance, 0.2, and far from solved."""
    images, rng = by_class(sources["test"]), np.random.default_rng(0)
    right = []
    for _ in range(300):
        episode = images[rng.choice(len(images), 5, replace=False)]
        support, query = episode[:, 0], episode[:, 1:]
        nearest = ((query[:, :, None] - support) ** 2).sum(-1).argmin(-1)
        right.append((nearest == np.arange(5)[:, None]).mean())
    assert 0.4 < np.mean(right) < 0.65


def test_a_drawing_depends_on_nothing_but_its_name(sources: Sources) -> None:
    source, faces = sources["test"], glyphs.letters()
    for label in (100, 3):  # in another order than they were made
        character = unicodedata.lookup(source.classes[label])
        rows = source.read(slice(None))[source.labels == label, 0]
        assert (drawings(character, faces[character], 28) == rows).all()


def test_the_second_use_comes_from_the_cache(sources: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Glyphs) -> None:
        raise AssertionError("drawn again")

    monkeypatch.setattr(Glyphs, "_drawn", refuse)
    again = Glyphs().source("val")
    assert again.fingerprint == sources["val"].fingerprint
    with pytest.raises(AssertionError, match="drawn again"):
        Glyphs(size=14).source("val")


@pytest.mark.parametrize("size", [8, 20, 64])
def test_a_drawing_is_the_same_at_any_size(size: int) -> None:
    """Brought to four by four, where nothing but the place of the ink is left, sizes agree."""
    coarse, other = (
        drawings("Ж", list(FACES[:2]), side).reshape(DRAWINGS, 4, side // 4, 4, side // 4).mean((2, 4))
        for side in (28, size)
    )
    assert np.abs(coarse - other).max() < 20


@pytest.mark.parametrize("size", [0, 7, -28])
def test_a_size_too_small_to_read_is_refused(size: int) -> None:
    with pytest.raises(InputError, match=f"data.size is {size}; glyphs are drawn at 8 or more"):
        Glyphs(size=size)


def test_an_unknown_split_is_refused_with_those_that_exist(sources: Sources) -> None:
    with pytest.raises(InputError, match="glyphs has no split valid; did you mean val"):
        Glyphs().source("valid")


def test_the_config_builds_it() -> None:
    text = (Path(__file__).parents[2] / "conf" / "data" / "glyphs.yaml").read_text()
    assert text.startswith("# metavision ")
    assert f"_target_: {Glyphs.__module__}.{Glyphs.__name__}" in text
