"""The results table at the end of a run."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from metavision.console import note, stdout
from metavision.records.novelty import not_new, same_classes
from metavision.records.provenance import code
from metavision.records.run import Run
from metavision.records.statistics import UNKNOWN, Estimate, figure, known

QUOTABLE = 600  # episodes; tests on sixteen, as were published, can be off by ten points
BEFORE = "before training"
NAMES = {
    "untrained": "the same, untrained",
    BEFORE: f"the same, {BEFORE}",
    "pixels": "nearest centroid on pixels",
    "inductive": "inductive: queries by the support's moments",
}


def show(result: Mapping[str, Any], folder: Path) -> None:
    """Prints a result with all that must be known to read it."""
    e, metric = result["episodes"], result["metric"]
    table = Table(title=_about(result), title_justify="left")
    table.add_column("")
    table.add_column(metric, justify="right")
    table.add_column("difference", justify="right")
    table.add_row(result["name"], f"[bold]{Estimate(**result[metric]).text(metric)}[/bold]", "")
    for name, reference in result.get("references", {}).items():
        called = _called(name, [result])
        table.add_row(NAMES.get(called, called), Estimate(**reference[metric]).text(metric), _difference(result, name))
    if "before_adaptation" in result:
        table.add_row("before adaptation", Estimate(**result["before_adaptation"]).text(metric), "")
    if result["chance"] is not None:
        table.add_row("chance", f"{100 * result['chance']:.2f} %", "")
    stdout.print(table)
    which = "episodes, the same for every row" if result.get("replacement", True) else "episodes without a common image"
    stdout.print(f"± is half a 95 % interval over {e['n']} {which}", soft_wrap=True)
    if e["n"] < QUOTABLE:
        stdout.print(f"fewer than {QUOTABLE} episodes: no figure to be quoted", soft_wrap=True)
    for line in _more(result):
        stdout.print(line, soft_wrap=True)
    if result.get("composition"):
        stdout.print(f"episodes: {result['composition']}", soft_wrap=True)
    if same_classes(result):
        stdout.print(f"[bold]classes are {result['classes']}: no few-shot learning[/bold]", soft_wrap=True)
    transductive = "transductive: queries of an episode help each other" if result["transductive"] else "inductive"
    stdout.print(f"normalisation {result['normalisation']} ({transductive})", soft_wrap=True)
    stdout.print(f"selected: {result['selection']}, step {result['step']}", soft_wrap=True)
    stdout.print(f"track: {result['track']}; split {result['split_hash']}", soft_wrap=True)
    if choice := result.get("chosen"):
        stdout.print(f"chosen on {choice['episodes']} validation episodes: {choice['name']}", soft_wrap=True)
    if about := result.get("pretrained"):
        stdout.print(pretrained(about), soft_wrap=True, markup=False)
    if result.get("leak"):
        stdout.print(f"[bold red]{result['leak']} of the classes were trained on[/bold red]", soft_wrap=True)
    stdout.print(f"record: {folder}", soft_wrap=True, markup=False)


def pretrained(about: Mapping[str, Any]) -> str:
    """What pre-trained weights are, by their provenance."""
    name = ".".join(str(about[part]) for part in ("model", "weights") if about[part])
    licence = f"licence {about['licence']}" if about["licence"] else "no licence stated"
    return f"pre-trained: {name} of {about['library']} {about['version']}, {about['file']}, {licence}"


def _more(result: Mapping[str, Any]) -> Iterator[str]:
    """What is known beyond the mean."""
    metric = result["metric"]
    if lost := result.get("not_finite"):
        left_out = ", which the calibration leaves out" if result.get("calibration") else ""
        yield f"[bold]outputs were not finite in {lost} of {result['episodes']['n']} episodes[/bold]{left_out}"
    if over := result.get("over_classes"):
        if not known(over["half_width"]):
            yield "over other classes: not known from these episodes"
        else:
            yield f"over other classes (as these {over['n']}): {Estimate(**over).text(metric)}"
    if found := result.get("calibration"):
        yield f"calibration: {_calibration(found)}"
    if found := result.get("supports"):
        worst, mean, best = (Estimate(**found[name]).text(metric) for name in ("worst", "mean", "best"))
        yield f"{found['each']} supports for each of {found['tasks']} tasks: worst {worst}, mean {mean}, best {best}"
    if found := result.get("cost"):
        yield (
            f"a task: {found['adapt_ms']:.1f} ms to adapt, {found['predict_ms']:.1f} ms for its queries, "
            f"{found['memory'] / 2**20:.0f} MiB"
        )


def _calibration(found: Mapping[str, Any]) -> str:
    ece, gap, brier = (found[name] for name in ("ece", "gap", "brier"))
    if not all(known(part) for part in (gap["mean"], gap["half_width"], ece["mean"], brier["mean"])):
        return UNKNOWN  # of a single episode with finite outputs, or in a record that counted the others in
    return (
        f"confidence less accuracy {100 * gap['mean']:+.2f} ± {100 * gap['half_width']:.2f} points, "
        f"expected error {100 * ece['mean']:.2f} ({100 * ece['low']:.2f} to {100 * ece['high']:.2f}), "
        f"Brier score {brier['mean']:.3f} ± {brier['half_width']:.3f}"
    )


def overview(done: Sequence[Mapping[str, Any]], settings: Sequence[str], failed: Sequence[str]) -> None:
    """Prints one table of several results, with what each was told, and which jobs failed."""
    abouts = [_about(result) for result in done]
    one = len(set(abouts)) == 1
    table = Table(title=f"all of them{f': {abouts[0]}' if one else ''}", title_justify="left")
    references = list(dict.fromkeys(name for result in done for name in result.get("references", {})))
    table.add_column("run", no_wrap=True)
    if any(settings):
        table.add_column("settings", overflow="fold")
    if not one:
        table.add_column("episodes")
    table.add_column("result", justify="right", no_wrap=True)
    for name in references:
        table.add_column(f"minus {_called(name, done)}", justify="right", no_wrap=True)
    for result, setting, about in zip(done, settings, abouts, strict=True):
        metric = result["metric"]
        cells = [_difference(result, name) for name in references]
        marks = "†" * result["transductive"] + "‡" * bool(not_new(result))
        figure_ = f"{Estimate(**result[metric]).text(metric)} {marks:2}"
        told = [escape(setting)] if any(settings) else []
        table.add_row(result["name"], *told, *([] if one else [about]), figure_, *cells)
    if done:
        stdout.print(table)
        known = "; ‡ on classes that were trained on" * any(map(not_new, done))
        stdout.print(f"± is half a 95 % interval over the episodes of a row; † transductive{known}", soft_wrap=True)
    for words in failed:
        stdout.print(f"[bold red]failed[/bold red]: {escape(words)}", soft_wrap=True)


def _about(result: Mapping[str, Any]) -> str:
    e = result["episodes"]
    return f"{result['data']} {result['split']}, {e['way']}-way {e['shot']}-shot {e['query']}-query"


def _called(name: str, results: Sequence[Mapping[str, Any]]) -> str:
    """A reference's name: what began from `init` or pre-trained weights is not untrained, nor is what does not say so,
    as an older record."""
    elsewhere = any(result.get("init", "") is not None or result.get("pretrained") for result in results)
    return BEFORE if name == "untrained" and elsewhere else name


def _difference(result: Mapping[str, Any], name: str) -> str:
    """To a reference, in pairs; empty where it was not tested."""
    if (reference := result.get("references", {}).get(name)) is None:
        return ""
    mean, width = (reference["difference"][part] for part in ("mean", "half_width"))
    return f"{figure(mean, result['metric'], signed=True)} ± {figure(width, result['metric'])}"


def show_finished(run: Run) -> dict[str, Any]:
    """Prints the stored result of a run, says if the code is another by now, and returns the result."""
    result = run.read("result.json")
    show(result, run.folder)
    if run.read("provenance.json").get("code") != code():
        note("the code has changed since this run")
    return result
