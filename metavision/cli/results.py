"""The results table at the end of a run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from metavision.console import note, stdout
from metavision.records.provenance import code
from metavision.records.run import Run
from metavision.records.statistics import Estimate

NAMES = {"untrained": "the same, untrained", "pixels": "nearest centroid on pixels"}


def show(result: Mapping[str, Any], folder: Path) -> None:
    """Prints a result with all that must be known to read it."""
    e, accuracy = result["episodes"], Estimate(**result["accuracy"])
    table = Table(
        title=f"{result['data']} {result['split']}, {e['way']}-way {e['shot']}-shot {e['query']}-query",
        title_justify="left",
    )
    table.add_column("")
    table.add_column("accuracy", justify="right")
    table.add_column("difference", justify="right")
    table.add_row(result["name"], f"[bold]{accuracy}[/bold]", "")
    for name, reference in result.get("references", {}).items():
        difference = f"{100 * reference['difference']['mean']:+.2f} ± {100 * reference['difference']['half_width']:.2f}"
        table.add_row(NAMES.get(name, name), str(Estimate(**reference["accuracy"])), difference)
    if "before_adaptation" in result:
        table.add_row("before adaptation", str(Estimate(**result["before_adaptation"])), "")
    table.add_row("chance", f"{100 * result['chance']:.2f} %", "")
    stdout.print(table)
    which = "episodes, the same for every row" if result.get("replacement", True) else "episodes without a common image"
    stdout.print(f"± is half a 95 % interval over {e['n']} {which}", soft_wrap=True)
    if result.get("composition"):
        stdout.print(f"episodes: {result['composition']}", soft_wrap=True)
    if result.get("classes", "new") != "new":
        stdout.print(f"[bold]classes are {result['classes']}: no few-shot learning[/bold]", soft_wrap=True)
    transductive = "transductive: queries of an episode help each other" if result["transductive"] else "inductive"
    stdout.print(f"normalisation {result['normalisation']} ({transductive})", soft_wrap=True)
    stdout.print(f"selected: {result['selection']}, step {result['step']}", soft_wrap=True)
    if result.get("leak"):
        stdout.print(f"[bold red]{result['leak']} of the classes were trained on[/bold red]", soft_wrap=True)
    stdout.print(f"record: {folder}", soft_wrap=True, markup=False)


def show_finished(run: Run) -> None:
    """Prints the stored result of a run, and says if the code is another by now."""
    show(run.read("result.json"), run.folder)
    if run.read("provenance.json").get("code") != code():
        note("the code has changed since this run")
