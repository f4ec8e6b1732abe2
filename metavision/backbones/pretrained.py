"""What networks of other libraries have in common."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from metavision.backbones.base import Backbone
from metavision.backbones.preprocessing import Preprocessing
from metavision.errors import InputError
from metavision.types import P


class Headless(NamedTuple):
    """A network whose classifier was taken off."""

    network: nn.Module
    features: int  # that the classifier was given
    head: tuple[str, ...]  # names of its modules


class Pretrained(Backbone):
    """A network of another library without its head: its features are what its classifier was given.

    It takes images in [0, 1] of any size, grey or RGB, and prepares them as the library does: the shorter side is
    resized with antialiasing and the middle cut out, unless they have the size already, and channels are standardised.
    So a data set stays as small as it is and is enlarged on the device.

    It is always as in evaluation: statistics of batch normalisation are those that came with the weights (the policy
    `stored`), and nothing drops at random. It is not mapped over tasks, since under vmap second derivatives of such
    layers are wrong (torch 2.11).

    Args:
        shape: (C, H, W) of the images.
        make: makes the network, drawing from torch's generator.
        preprocessing: of its images.
    """

    maps: ClassVar[bool] = False
    mean: Tensor
    std: Tensor

    def __init__(self, shape: Sequence[int], make: Callable[[], Headless], preprocessing: Preprocessing) -> None:
        super().__init__()
        if not (preprocessing.size >= 1 and 0 < preprocessing.crop <= 1):
            raise InputError(
                f"backbone.size is {preprocessing.size}, which must be at least 1, and backbone.crop "
                f"{preprocessing.crop}, a share above 0, at most 1"
            )
        if shape[0] not in (1, 3):
            raise InputError(f"a pre-trained network takes images of 1 or 3 channels, and these have {shape[0]}")
        self.make = make
        with torch.random.fork_rng(devices=[]):
            self.network, self.features, self.head = make()
        self.map, self.preprocessing = (self.features, 1, 1), preprocessing
        self.norm = _policy(self.network)
        for name in ("mean", "std"):
            numbers = torch.tensor(getattr(preprocessing, name), dtype=torch.get_default_dtype()).view(-1, 1, 1)
            self.register_buffer(name, numbers, persistent=False)
        self.eval()

    def train(self, mode: bool = True) -> "Pretrained":  # noqa: ARG002 - nn.Module's signature
        return super().train(False)

    def initial(self, generator: torch.Generator) -> P:
        """What training starts from: the trained parameters; where there are none, fresh ones by the generator."""
        network = self.network
        if self.provenance is None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
                network = self.make().network
        return {f"network.{name}": p.detach() for name, p in network.named_parameters()}

    def facts(self) -> dict[str, Any]:
        """What its `provenance` says of any network."""
        assert self.preprocessing is not None
        parameters = sum(p.numel() for p in self.network.parameters())
        return {"parameters": parameters, "preprocessing": self.preprocessing._asdict()}

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:  # noqa: ARG002 - each image alone
        self._follow(x.device)
        return self.network(self.prepared(x))

    def prepared(self, x: Tensor) -> Tensor:
        """Images (n, C, H, W) in [0, 1] as the network was trained on them: (n, 3, size, size)."""
        wanted = self.preprocessing
        assert wanted is not None
        if x.shape[-2:] != (wanted.size, wanted.size):
            sides = [wanted.resized] * (2 if wanted.squash else 1)
            x = tv.resize(x, sides, InterpolationMode(wanted.resample), antialias=True)
            # Bicubic interpolation of floats goes beyond them; that of bytes, which the libraries train on, does not.
            x = tv.center_crop(x, [wanted.size, wanted.size]).clamp(0, 1)
        return (x.expand(-1, 3, -1, -1) - self.mean) / self.std

    def _follow(self, device: torch.device) -> None:
        """What is neither a parameter nor handed in goes to the device of the images, once."""
        for module in self.modules():
            for name, held in module.named_buffers(recurse=False):
                if held.device != device:
                    module._buffers[name] = held.to(device)  # noqa: SLF001 - `setattr` would do it for one module alone


def _policy(network: nn.Module) -> str:
    layers = list(network.modules())
    if any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in layers):  # noqa: SLF001
        return "stored"
    return "layer" if any(isinstance(layer, nn.LayerNorm | nn.GroupNorm) for layer in layers) else "none"
