"""How many cores of the CPU this process may use."""

import math
import os
from contextlib import suppress
from pathlib import Path

CONTROL_GROUP = Path("/sys/fs/cgroup")


def cores() -> int:
    """By its affinity and by the quota of its container."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(allowed, quota())))


def quota(group: Path = CONTROL_GROUP) -> float:
    """Cores that the control group grants, on average; infinite where it sets no bound."""
    with suppress(OSError, ValueError):
        granted, period = (group / "cpu.max").read_text().split()
        return math.inf if granted == "max" else int(granted) / int(period)
    with suppress(OSError, ValueError):  # version 1 of control groups
        granted, period = ((group / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return math.inf if int(granted) < 0 else int(granted) / int(period)
    return math.inf
