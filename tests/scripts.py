"""The files of `scripts/`, as modules."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).parent.parent / "scripts"


def script(name: str) -> ModuleType:
    """By its path: other packages have a `scripts`, too."""
    spec = spec_from_file_location(f"scripts_{name}", FOLDER / f"{name}.py")
    assert spec and spec.loader
    module = sys.modules[spec.name] = module_from_spec(spec)  # where dataclasses look for their module
    spec.loader.exec_module(module)
    return module
