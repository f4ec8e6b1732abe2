"""Evidence laid over the image that it is in."""

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

SIDE = 336  # of a picture, in pixels
WIDTH = 1 / 20  # of the blur, as a share of the side: single pixels say little, and less to the eye
FOR, AGAINST = (214, 48, 39), (33, 102, 172)  # red, blue: told apart by nearly everybody
STRONG = 0.995  # the share of pixels that are weaker than full colour
COVER, GREY = 0.85, 0.7  # of the image at most, and how much of its own colour is taken off


def overlay(image: Tensor, pixels: Tensor) -> Image.Image:
    """Red where there is evidence for the class, blue where against, on the image in grey.

    Args:
        image: (C, H, W) uint8.
        pixels: attributions (C, H, W), which are summed over channels and blurred a little.
    """
    shown = picture(image)
    side = shown.size[0]
    heat = F.interpolate(_blurred(pixels.sum(0))[None, None], size=(side, side), mode="bilinear")[0, 0].numpy()
    heat = (heat / max(float(np.quantile(np.abs(heat), STRONG)), 1e-12)).clip(-1, 1)[..., None]
    plain = np.asarray(shown, np.float64)
    plain = GREY * plain.mean(2, keepdims=True) + (1 - GREY) * plain
    colour = np.where(heat > 0, np.array(FOR, np.float64), np.array(AGAINST, np.float64))
    cover = COVER * np.abs(heat)
    return Image.fromarray((plain * (1 - cover) + colour * cover).round().astype(np.uint8))


def picture(image: Tensor) -> Image.Image:
    """What the network sees (C, H, W) uint8, in RGB and large enough to be looked at."""
    seen = Image.fromarray(image.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy())
    return seen if seen.size[0] >= SIDE else seen.resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def _blurred(heat: Tensor) -> Tensor:
    """By a Gaussian, (H, W) to (H, W)."""
    sigma = max(WIDTH * heat.shape[0], 0.5)
    reach = min(int(3 * sigma), heat.shape[0] - 1)
    away = torch.arange(-reach, reach + 1, dtype=heat.dtype)
    kernel = torch.exp(-(away**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    padded = F.pad(heat[None, None], (reach,) * 4)
    return F.conv2d(F.conv2d(padded, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))[0, 0]
