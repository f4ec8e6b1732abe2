"""Heads by name; `own` is an algorithm's, which takes one."""

from metavision.classify.heads.base import Head
from metavision.classify.heads.logistic import Logistic
from metavision.classify.heads.prototypes import Prototypes
from metavision.classify.heads.ridge import Ridge

KINDS: dict[str, type[Head]] = {kind.name: kind for kind in (Prototypes, Ridge, Logistic)}
