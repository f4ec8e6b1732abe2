"""The results table at the end of a run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from metavision.console import note, stdout
from metavision.records.provenance import code
from metavision.records.run import Run
from metavision.records.statistics import Estimate, figure

NAMES = {"untrained": "the same, untrained", "pixels": "nearest centroid on pixels"}


def show(result: Mapping[str, Any], folder: Path) -> None:
    """Prints a result with all that must be known to read it."""
    e, metric = result["episodes"], result["metric"]
    table = Table(
        title=f"{result['data']} {result['split']}, {e['way']}-way {e['shot']}-shot {e['query']}-query",
        title_justify="left",
    )
    table.add_column("")
    table.add_column(metric, justify="right")
    table.add_column("difference", justify="right")
    table.add_row(result["name"], f"[bold]{Estimate(**result[metric]).text(metric)}[/bold]", "")
    for name, reference in result.get("references", {}).items():
        mean, width = (reference["difference"][part] for part in ("mean", "half_width"))
        difference = f"{figure(mean, metric, signed=True)} ± {figure(width, metric)}"
        table.add_row(NAMES.get(name, name), Estimate(**reference[metric]).text(metric), difference)
    if "before_adaptation" in result:
        table.add_row("before adaptation", Estimate(**result["before_adaptation"]).text(metric), "")
    if result["chance"] is not None:
        table.add_row("chance", f"{100 * result['chance']:.2f} %", "")
    stdout.print(table)
    which = "episodes, the same for every row" if result.get("replacement", True) else "episodes without a common image"
    stdout.print(f"± is half a 95 % interval over {e['n']} {which}", soft_wrap=True)
    if result.get("composition"):
        stdout.print(f"episodes: {result['composition']}", soft_wrap=True)
    if result.get("classes", "new").startswith("the same"):
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
