"""Rows as files that other programs read."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """CSV of rows that share their keys, numbers with six digits."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
    return text.getvalue()


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table of rows that share their keys, as Markdown has it."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    lines = [keys, ["---"] * len(keys), *([str(row.get(key, "")) for key in keys] for row in rows)]
    return "".join(
        f"| {' | '.join(cell.replace('|', '/').replace('<', '&lt;') for cell in line)} |\n" for line in lines
    )


def _cell(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value
