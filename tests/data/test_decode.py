"""Images of every kind, brought to one shape; Pillow and arithmetic as oracles."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from metavision.data import decode
from metavision.data.decode import Decoder
from metavision.errors import InputError

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (8, 8), dtype=np.uint8)


def file(image: Image.Image, kind: str, **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def rgb(content: Any, size: int = 8, **options: Any) -> np.ndarray:
    """(H, W, 3)"""
    return Decoder(size, "rgb", **options)(content).transpose(1, 2, 0)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP", "PPM"])
def test_lossless_files_keep_their_pixels(kind: str, tmp_path: Path) -> None:
    content = file(Image.fromarray(RGB), kind, **({"lossless": True} if kind == "WEBP" else {}))
    np.testing.assert_array_equal(rgb(content), RGB)
    (tmp_path / "image").write_bytes(content)
    np.testing.assert_array_equal(rgb(tmp_path / "image"), RGB)
    np.testing.assert_array_equal(rgb(RGB), RGB)


def test_grey_and_colour() -> None:
    content = file(Image.fromarray(GREY), "PNG")
    np.testing.assert_array_equal(Decoder(8, "grey")(content)[0], GREY)
    np.testing.assert_array_equal(rgb(content), np.stack([GREY] * 3, axis=-1))
    np.testing.assert_array_equal(Decoder(8, "grey")(RGB)[0], np.asarray(Image.fromarray(RGB).convert("L")))
    np.testing.assert_array_equal(Decoder(8, "grey", invert=True)(GREY)[0], 255 - GREY)
    one_bit = Image.fromarray(GREY > 127)
    np.testing.assert_array_equal(Decoder(8, "grey")(file(one_bit, "PNG"))[0], np.where(GREY > 127, 255, 0))


def test_cmyk_is_converted() -> None:
    content = file(Image.fromarray(RGB).convert("CMYK"), "TIFF")
    np.testing.assert_array_equal(rgb(content), np.asarray(Image.open(io.BytesIO(content)).convert("RGB")))
    assert np.abs(rgb(content).astype(int) - RGB).max() <= 1


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_cut(kind: str) -> None:
    deep = np.array([[0, 257, 32896, 65535]] * 4, dtype=np.uint16)
    found = Decoder(4, "grey")(file(Image.fromarray(deep), kind))[0]
    assert found[0].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_white(mode: str) -> None:
    alpha = np.zeros((8, 8), np.uint8)
    alpha[:4] = 255
    if mode == "P":
        image = Image.fromarray(np.where(alpha > 0, 1, 0).astype(np.uint8), "P")
        image.putpalette([9, 9, 9, 50, 60, 70])
        found = rgb(file(image, "PNG", transparency=0))
        expected = np.broadcast_to([50, 60, 70], (4, 8, 3))
    else:
        colours = Image.fromarray(RGB).convert(mode[:-1])
        image = colours.copy()
        image.putalpha(Image.fromarray(alpha))
        found, expected = rgb(file(image, "PNG")), np.asarray(colours.convert("RGB"))[:4]
    np.testing.assert_array_equal(found[:4], expected)
    assert (found[4:] == 255).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_are_undone(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = file(Image.fromarray(RGB), "PNG", exif=exif)
    turns = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90,
    }
    np.testing.assert_array_equal(rgb(content), turns[orientation](RGB))


def test_exif_that_cant_be_read_does_no_harm() -> None:
    content = file(Image.fromarray(RGB), "PNG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12")
    np.testing.assert_array_equal(rgb(content), RGB)


@pytest.mark.parametrize("resample", ["nearest", "box", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("fit", ["squash", "crop"])
def test_fit_and_filter(fit: Any, resample: Any) -> None:
    image = Image.fromarray(RNG.integers(0, 256, (30, 50, 3), dtype=np.uint8))
    found = rgb(file(image, "PNG"), 12, fit=fit, resample=resample)
    filter_ = Image.Resampling[resample.upper()]
    if fit == "crop":
        np.testing.assert_array_equal(found, np.asarray(ImageOps.fit(image, (12, 12), filter_)))
        if resample in ("nearest", "box"):  # others look a little beyond the edge of the crop
            middle = image.crop((10, 0, 40, 30)).resize((12, 12), filter_)
            np.testing.assert_array_equal(found, np.asarray(middle))
    else:
        np.testing.assert_array_equal(found, np.asarray(image.resize((12, 12), filter_)))


def test_the_first_frame_of_a_gif() -> None:
    frames = [Image.fromarray(np.full((8, 8), value, np.uint8)) for value in (30, 200)]
    content = file(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (rgb(content) == 30).all()


GOOD = file(Image.fromarray(RGB), "PNG")


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>not found</html>", GOOD[:40], GOOD[:-60], b"\x89PNG\r\n\x1a\n" + b"\0" * 100, b"GIF89a"],
)
def test_what_is_no_image_says_so(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(content)
    for given in (content, tmp_path / "photo.jpg"):
        with pytest.raises(ValueError, match=r"."):
            rgb(given)


def test_floats_and_giants_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="floats"):
        rgb(file(Image.fromarray(RNG.random((4, 4), dtype=np.float32)), "TIFF"))
    monkeypatch.setattr(decode, "LARGEST", 63)
    with pytest.raises(ValueError, match="8 x 8 pixels are too many"):
        rgb(GOOD)


@pytest.mark.parametrize("size", [0, -1, 2000])
def test_sizes_have_bounds(size: int) -> None:
    with pytest.raises(InputError, match=f"data.size is {size}"):
        Decoder(size)
