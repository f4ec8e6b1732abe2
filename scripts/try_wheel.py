"""Builds the wheel and trains with it outside the checkout: what a user gets from an index must run.

The heavy packages are borrowed from the running environment; metavision itself is the wheel's.
"""

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent
SHOWN = "import metavision, metavision.config as c; print(metavision.__file__, c.folder())"


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        here = Path(place)
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
        subprocess.run([*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", place, str(ROOT)], check=True)
        (wheel,) = here.glob("metavision-*.whl")
        venv.create(here / "venv", with_pip=False)
        python = here / "venv" / "bin" / "python"
        subprocess.run([*pip, "--python", str(python), "install", "--quiet", "--no-deps", str(wheel)], check=True)
        site = next((here / "venv" / "lib").glob("python*/site-packages"))
        borrowed = Path(next(path for path in sys.path if path.endswith("site-packages")))
        # Appended, so that the wheel's metavision comes first; a plain path leaves the checkout's .pth unread.
        (site / "borrowed.pth").write_text(f"{borrowed}\n")
        environment = {**os.environ, "METAVISION_CACHE": str(here / "cache")}
        environment.pop("PYTHONPATH", None)
        shown = subprocess.run(
            [python, "-c", SHOWN], cwd=here, env=environment, check=True, capture_output=True, text=True
        )
        print(shown.stdout, end="")
        if str(ROOT) in shown.stdout:
            sys.exit("the checkout was imported, not the wheel")
        command = [here / "venv" / "bin" / "metavision", "train", "budget=smoke", "budget.steps=20", "data=glyphs"]
        subprocess.run(command, cwd=here, env=environment, check=True)
        if not list(here.glob("outputs/*/seed0/DONE")):
            sys.exit("the run did not finish")


if __name__ == "__main__":
    main()
