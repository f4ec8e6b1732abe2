"""From the host's memory to the device's."""

import numpy as np
import torch
from torch import Tensor


def to(device: torch.device, values: np.ndarray | Tensor) -> Tensor:
    """Numbers of the host on a device; the host does not wait for them to arrive there."""
    tensor = torch.from_numpy(values) if isinstance(values, np.ndarray) else values
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)  # from other memory a copy is waited for
