"""The files of `scripts/` and `benchmarks/`, as modules."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parent.parent


def script(name: str, folder: str = "scripts") -> ModuleType:
    """By its path: other packages have a `scripts`, too."""
    spec = spec_from_file_location(f"{folder}_{name}", ROOT / folder / f"{name}.py")
    assert spec and spec.loader
    module = sys.modules[spec.name] = module_from_spec(spec)  # where dataclasses look for their module
    sys.path.insert(0, str(ROOT / folder))  # as for a script that is run: where those beside it are found
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(ROOT / folder))
    return module
