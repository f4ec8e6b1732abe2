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
sys.path.insert(0, str(ROOT))

from tests.pages import followed  # noqa: E402

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
        program = here / "venv" / "bin" / "metavision"
        # An algorithm of a user's own, outside of the package, as the page on adding one has it.
        ((_, *own),) = followed(ROOT / "docs" / "add-an-algorithm.md", here)
        for words in (["train", "budget=smoke", "data=glyphs"], own):
            subprocess.run([program, *words, "budget.steps=20"], cwd=here, env=environment, check=True)
        if len(list(here.glob("outputs/*/seed0/DONE"))) != 2:
            sys.exit("the runs did not finish")


if __name__ == "__main__":
    main()
