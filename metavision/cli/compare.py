"""`metavision compare`: put runs side by side."""

import math
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from metavision.cli.parser import Parser
from metavision.comparison.entries import found
from metavision.comparison.groups import grouped
from metavision.comparison.report import write
from metavision.comparison.view import View
from metavision.console import note, stdout
from metavision.errors import InputError, no_option
from metavision.records.run import run_id

EXAMPLES = """places
  a run's folder, a folder of its seeds, an evaluation, a sweep's folder, or any folder with runs below it

options, as KEY=VALUE
  by=algo          what makes a group: run (all but the seed), algo, data, shot, way, norm, code, or keys of the
                   configuration, such as by=algo,episode.shot
  metric=loss      another figure that is kept by episode
  least=0.005      the smallest difference that is called one
  out=FOLDER       where index.html, table.md and table.csv go (default: outputs/comparisons/ID)

examples
  metavision compare outputs/protonet-glyphs-1a2b3c4d outputs/maml-glyphs-5e6f7a8b
  metavision compare outputs by=algo
  metavision compare outputs/multirun/2026-01-31_12-00-00
"""
KEYS = ("by", "metric", "least", "out")


def main(words: list[str]) -> int:
    parser = Parser(
        prog="metavision compare",
        usage="metavision compare RUN… [KEY=VALUE…]",
        description="Puts runs side by side: a table here, and a page with curves, pairs, classes and costs.",
        epilog=EXAMPLES,
    )
    parser.add_argument("words", nargs="*", metavar="RUN… [KEY=VALUE…]", help="what is compared, and how")
    places, options = _told(parser.parse_args(words).words)
    view = View(
        tuple(grouped(found(places), [key for key in options.get("by", "").split(",") if key], options.get("metric"))),
        _number("least", options.get("least", "0")),
    )
    view = view.ranked()
    _show(view)
    identity = {"groups": [[str(entry.folder) for entry in group.entries] for group in view.groups], "options": options}
    folder = Path(options.get("out", f"outputs/comparisons/{run_id(identity)}"))
    note(f"page: {write(view, folder)}")
    return 0


def _told(words: list[str]) -> tuple[list[str], dict[str, str]]:
    """Places, and options."""
    places, options = [], {}
    for word in words:
        key, is_option, value = word.partition("=")
        if not is_option or Path(word).exists():
            places.append(word)
        elif key in KEYS:
            options[key] = value
        else:
            raise InputError(no_option("compare", key, KEYS))
    return places, options


def _number(key: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError as error:
        raise InputError(f"{key}={value} is no number") from error
    if not 0 <= number < math.inf:
        raise InputError(f"{key}={value} must be a number from 0 on")
    return number


COLUMNS = ("± over", "± classes", "validation", "seeds")  # of the table in the terminal, beside the figure
MOST_LINES = 15  # of pairs
BELOW = ("episodes", "queries", "normalisation", "track", "split")


def _show(view: View) -> None:
    rows = view.rows()
    shown = Table(title=f"{view.metric}{' in %' * bool(view.unit)}", title_justify="left")
    same = {key for key in COLUMNS if len({row[key] for row in rows}) == 1 and len(rows) > 1}
    keys = ["", "what", view.metric, *(key for key in COLUMNS if key not in same)]
    for key in keys:
        figures = key in (view.metric, "± classes", "validation")
        shown.add_column(key, justify="right" if figures else "left", no_wrap=key in ("", view.metric), overflow="fold")
    for row in rows:
        shown.add_row(*(escape(row[key]) for key in keys))
    stdout.print(shown)
    for key in (*sorted(same, key=COLUMNS.index), *BELOW):
        values: dict[str, list[str]] = {}
        for row in rows:
            values.setdefault(row[key], []).append(row[""])
        words = "; ".join(f"{' '.join(who)} {value}" if len(values) > 1 else value for value, who in values.items())
        stdout.print(f"{key}: {words}", soft_wrap=True, markup=False)
    if len(view.groups) == 1:
        return
    stdout.print(f"\n{view.headline()}", style="bold", soft_wrap=True, markup=False)
    lines = view.lines()
    if lines:
        least = f"; a difference is one from {view.number(view.least)} on" * bool(view.least)
        stdout.print(f"pairs, on the same episodes; p corrected for their number (Holm){least}", soft_wrap=True)
    more = [f"… and {len(lines) - MOST_LINES} more on the page"] if len(lines) > MOST_LINES else []
    for line in [*lines[:MOST_LINES], *more, *view.known, view.scope, view.caution, *view.refused()]:
        if line:
            stdout.print(f"  {line}", soft_wrap=True, markup=False)
