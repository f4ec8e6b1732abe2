"""Which head a classifier gets."""

import torch
from torch import Tensor

from metavision.classify.heads import KINDS
from metavision.classify.heads.base import Head
from metavision.classify.heads.own import Own
from metavision.classify.network import Network
from metavision.errors import InputError, suggestion

OWN_CLASSES, OWN_IMAGES = (
    50,
    1000,
)  # up to which a run's own head is taken unasked: solvers of episodes are made for few
SHOTS = 5  # from which a class has enough images for more than its mean


def chosen(name: str, network: Network, y: Tensor, k: int, *, algorithm: bool) -> tuple[Head, str]:
    """The head of a name, and why it is that.

    `auto` goes by a rule that looks at no accuracy, since an estimate that heads were chosen by would be too good: a
    run's own head where it can tell these classes apart, up to 50 of them; else ridge where every class has 5 images,
    or prototypes.

    Args:
        name: auto, own, or one of `KINDS`.
        network: whose algorithm `own` is.
        y: labels of the support (n,).
        k: classes.
        algorithm: whether the network's algorithm was asked for, or is that of a run.

    Raises:
        InputError: there is no such head, or the algorithm can't be one for these classes.
    """
    if name not in ("auto", Own.name, *KINDS):
        raise InputError(f"there is no head={name}{suggestion(name, ('auto', Own.name, *KINDS))}")
    if name in KINDS:
        return KINDS[name](), "as asked for"
    if name == Own.name:
        if not algorithm:
            raise InputError("head=own is that of a run's algorithm, or of algo=; choose one of them or another head")
        own = network.own()
        own.check(k)
        return own, "as asked for"
    why = ""
    if algorithm and k <= OWN_CLASSES and len(y) <= OWN_IMAGES:
        try:
            own = network.own()
            own.check(k)
        except InputError as error:
            why = f"; its own not, since {error}"
        else:
            return own, f"that of {type(own.algorithm).__name__}, the network's algorithm"
    least = int(torch.bincount(y, minlength=k).min())
    if least < SHOTS:
        return KINDS["prototypes"](), f"since a class has {least} image{'s' * (least > 1)}{why}"
    return KINDS["ridge"](), f"since every class has {SHOTS} images or more{why}"
