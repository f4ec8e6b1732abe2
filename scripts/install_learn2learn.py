"""Installs learn2learn into the running environment; without a C compiler says so and goes on.

Its published sources hold generated C that current Pythons refuse; the build option has it generated anew.
"""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

REQUIREMENTS = Path(__file__).parent.parent / "requirements"
PIP = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]


def main() -> None:
    if find_spec("learn2learn"):
        return
    commands = (
        [*PIP, "-c", str(REQUIREMENTS / "pinned.txt"), "-r", str(REQUIREMENTS / "learn2learn.txt")],
        [*PIP, "--no-deps", "--config-settings=--build-option=build_ext", "learn2learn==0.2.0"],
    )
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = next(
                (line for line in reversed(done.stderr.splitlines()) if "error" in line.lower()), "no reason given"
            )
            print(f"learn2learn could not be installed ({reason.strip()}); the tests against it will be skipped")
            return


if __name__ == "__main__":
    main()
