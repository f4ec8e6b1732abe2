"""What a result came from: code, packages, machine."""

import hashlib
import os
import platform
import subprocess
import sys
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import metavision

PACKAGES = ("torch", "torchvision", "numpy", "hydra-core", "omegaconf", "pillow", "safetensors", "timm", "wandb")
DECIDING = ("metavision", "conf", "hydra_plugins")  # folders of a checkout that a result can depend on


def provenance() -> dict[str, Any]:
    """JSON about the code, the packages, the machine and the command."""
    versions = {d.name.lower(): d.version for d in distributions()}
    return {
        "metavision": metavision.__version__,
        "code": code(),
        "git": git(),
        "python": platform.python_version(),
        "packages": {name: versions[name] for name in PACKAGES if name in versions},
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "command": " ".join(sys.argv),
    }


@cache
def code() -> str:
    """A hash of the package's sources, known with or without git."""
    package = Path(metavision.__file__).parent
    digest = hashlib.blake2b(digest_size=6)
    for path in sorted(package.rglob("*.py")):
        digest.update(f"{path.relative_to(package)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def git() -> dict[str, Any] | None:
    """Commit and whether the package or `conf` differs from it; None outside a checkout of this project."""
    root = Path(metavision.__file__).parent.parent
    if not (root / ".git").exists():
        return None
    try:
        commit = _git(root, "rev-parse", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", *DECIDING)
        return {"commit": commit, "dirty": bool(changed)}
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *words: str) -> str:
    return subprocess.run(
        ["git", "-C", str(root), *words], capture_output=True, text=True, check=True, timeout=10
    ).stdout.strip()
