"""Builds the site: the pages of docs/, those made of code, configuration and results, as HTML in build/site.

python scripts/docs            a broken link or anchor is an error
python scripts/docs --pages    the pages alone, as Markdown in build/docs
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import api
import commands
import options

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build"
COPIED = {"RESULTS.md": "results.md", "CHANGELOG.md": "changelog.md"}


def assemble(target: Path) -> None:
    """Writes every page below a folder, which is emptied first."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(ROOT / "docs", target)
    for page in target.glob("*.md"):
        text = page.read_text(encoding="utf-8")
        for name, place in COPIED.items():
            text = text.replace(f"](../{name})", f"]({place})")
        page.write_text(text, encoding="utf-8")
    for name, place in COPIED.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        (target / place).write_text(re.sub(r"\(conf/experiment/([^)]+)\.yaml\)", r"(options/experiment.md#\1)", text))
    for path, text in {**options.pages(), **api.pages(), **commands.pages()}.items():
        (target / path).parent.mkdir(exist_ok=True)
        (target / path).write_text(text, encoding="utf-8")


def main(words: list[str]) -> int:
    assemble(BUILD / "docs")
    if words == ["--pages"]:
        return 0
    shutil.copy(Path(__file__).parent / "zensical.toml", BUILD)  # where its cache may lie
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    code = subprocess.run(command, cwd=BUILD, check=False, env={**os.environ, "NO_COLOR": "1"}).returncode
    if not code:
        loads_nothing(BUILD / "site")
        print("site: build/site/index.html; with its search: python -m http.server --directory build/site")
    return code


def loads_nothing(site: Path) -> None:
    """Exits where a page needs what lies elsewhere: a script, a style, a font, a picture."""
    for page in site.rglob("*.html"):
        tags = re.findall(r"<(?:script|link|img|iframe)\b[^>]*>", page.read_text(encoding="utf-8"))
        if found := [tag for tag in tags if re.search(r"""(?:src|href)=["'](?:https?:)?//""", tag)]:
            sys.exit(f"{page.relative_to(site)} loads {found[0]}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
