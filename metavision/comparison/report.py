"""A comparison as files: a page, and its table for papers and for programs."""

from pathlib import Path

from metavision.comparison.page import page
from metavision.comparison.view import View
from metavision.errors import InputError
from metavision.records.tables import markdown, table


def write(view: View, folder: Path) -> Path:
    """`index.html`, `table.md` and `table.csv` in a folder; returns the first.

    Raises:
        InputError: they can't be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "index.html").write_text(page(view), encoding="utf-8")
        (folder / "table.md").write_text(markdown(view.rows()), encoding="utf-8")
        (folder / "table.csv").write_text(table(view.rows()), encoding="utf-8")
    except OSError as error:
        raise InputError(f"{error.filename or folder} can't be written: {error.strerror}") from error
    return folder / "index.html"
