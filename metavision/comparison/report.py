"""A comparison as files: a page, and its table for papers and for programs."""

from pathlib import Path

from metavision.comparison.page import page
from metavision.comparison.view import View
from metavision.drafts import draft_of
from metavision.records.tables import markdown, table


def write(view: View, folder: Path) -> Path:
    """`index.html`, `table.md` and `table.csv` in a folder; returns the first.

    Raises:
        InputError: they can't be written.
    """
    rows = view.rows()
    for name, text in (("index.html", page(view)), ("table.md", markdown(rows)), ("table.csv", table(rows))):
        with draft_of(folder / name) as draft:
            draft.write_text(text, encoding="utf-8")
    return folder / "index.html"
