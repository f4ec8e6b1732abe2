"""Puts the wheels of `wheels/` that this Python lacks into a folder, without a network: for `make gpu`.

python3 scripts/install_wheels.py FOLDER      then PYTHONPATH=FOLDER

What is there already stays as it is. Needs pip, and nothing else.
"""

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

WHEELS = Path(__file__).resolve().parent.parent / "wheels"


def lacking(wheels: Path) -> list[Path]:
    """Those whose package is not installed."""
    found = []
    for path in sorted(wheels.glob("*.whl")):
        try:
            version(path.name.split("-")[0])
        except PackageNotFoundError:
            found.append(path)
    return found


def main(target: str) -> int:
    wheels = lacking(WHEELS)
    print(
        f"packages: {', '.join('-'.join(path.name.split('-')[:2]) for path in wheels) or 'all are there'}", flush=True
    )
    if not wheels:
        return 0
    pip = [sys.executable, "-m", "pip", "--quiet", "install", "--root-user-action=ignore"]
    command = [*pip, "--no-index", "--no-deps", "--upgrade", "--no-compile", "--no-warn-conflicts", "--target", target]
    if not subprocess.run([*command, *wheels], check=False).returncode:
        return 0
    # One by one, so that a wheel of another Python, which is named, keeps none of the others away.
    return max(subprocess.run([*command, wheel], check=False).returncode for wheel in wheels)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
