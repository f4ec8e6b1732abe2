"""The actions of `metavision data`, and data sets by name."""

from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from rich.table import Table

from metavision import build, config
from metavision.cli.launch import explain
from metavision.console import stdout
from metavision.data.episodes import EpisodeSampler
from metavision.data.imageset import SPLITS, ImageSet
from metavision.data.pictures import contact_sheet, episode_picture
from metavision.data.source import DataSet, NoSplit, Source
from metavision.data.sources.mixture import Mixture
from metavision.data.spec import EpisodeSpec
from metavision.data.verification import findings
from metavision.errors import InputError

MARKS = {"ok": "[green]ok[/green]", "note": "[yellow]note[/yellow]", "bad": "[bold red]bad[/bold red]"}


def show_list() -> int:
    """What there is, what is here, and how to get the rest."""
    table = Table(box=None, pad_edge=False)
    for column, justify in (
        ("data=", "left"),
        ("classes", "left"),
        ("images", "right"),
        ("size", "right"),
        ("", "left"),
    ):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    missing = []
    for name in names():
        data = composed(name, ["path=."] if name == "folder" else [])
        if not isinstance(data, ImageSet):
            what = "several sets, an episode from one of them" if isinstance(data, Mixture) else "tasks, and no images"
            table.add_row(name, "", "", "", what, style="dim")
            continue
        card, state = data.card, _state(name, data)
        if state == "missing":
            missing.append((name, data))
        images = f"{card.images:,}" if card.images else ""
        size = f"{card.size} {card.color}"
        table.add_row(name, card.split, images, size, state, style="dim" if state == "missing" else None)
    stdout.print(table)
    if missing:
        stdout.print("\nTo get what is missing (or set METAVISION_DATA to the folder that holds it):")
        for name, data in missing:
            by_itself = " It is downloaded on first use." if data.card.archives else ""
            stdout.print(f"[bold]{name}[/bold]: {data.advice.partition(', or set')[0]}.{by_itself}")
            stdout.print(f"  [dim]licence: {data.card.licence}[/dim]")
    return 0


def prepare(name: str, options: list[str]) -> int:
    """Decode a data set into the cache; done by itself on first use."""
    data = of_images(name, options)
    _summary(data)
    if isinstance(data, ImageSet):
        pack = data.pack()
        size = pack.images.nbytes / 2**20
        stdout.print(f"{size:,.0f} MiB in {pack.folder}", soft_wrap=True, markup=False)
    return 0


def show(name: str, options: list[str]) -> int:
    """Counts, a contact sheet of every split, and an episode, as pictures in outputs/data."""
    data = of_images(name, options)
    sources = _summary(data)
    for split, source in sources.items():
        path = Path("outputs") / "data" / name / f"{split}.png"
        contact_sheet(source, path)
        stdout.print(f"{path}", soft_wrap=True, markup=False)
    source = sources.get("test") or next(iter(sources.values()))
    least = int(source.by_class[2].min())
    if least > 1:
        spec = EpisodeSpec(min(5, len(source.classes)), min(5, least // 2), min(10, least - min(5, least // 2)))
        path = Path("outputs") / "data" / name / "episode.png"
        episode_picture(EpisodeSampler(source, spec, seed=0), 0, path)
        stdout.print(f"{path}", soft_wrap=True, markup=False)
    return 0


def verify(name: str, options: list[str]) -> int:
    """Checksums, damage, classes in two splits, duplicates. Exit code 1 if anything makes results wrong."""
    data = of_images(name, options)
    parts = data.parts.values() if hasattr(data, "parts") else [data]
    bad = False
    for part in parts:
        table = Table(box=None, pad_edge=False, title=str(part), title_justify="left", show_header=False)
        for finding in findings(part):
            table.add_row(MARKS[finding.state], finding.check, finding.text)
            bad |= finding.state == "bad"
        stdout.print(table)
    return int(bad)


def names() -> list[str]:
    """The files of conf/data."""
    return sorted(path.stem for path in (config.folder() / "data").glob("*.yaml"))


def composed(name: str, options: list[str]) -> Any:
    """The data set of a name, with options as `metavision train` takes them.

    Raises:
        InputError: there is no such data set or option.
    """
    words = [f"data={name}", *(word if word.startswith("data.") else f"data.{word}" for word in options)]
    config.register()
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(config.folder()), version_base="1.3"):
            node = OmegaConf.to_container(hydra.compose("train", words).data, resolve=True)
    except Exception as error:
        if not config.of_composition(error):
            raise
        raise InputError(explain(error, "train", words)) from error
    config.check({"data": node})
    return build.dataset({"data": node})


def of_images(name: str, options: list[str]) -> Any:
    """The same, or an InputError where it has tasks alone."""
    data = composed(name, options)
    if not isinstance(data, ImageSet | Mixture):
        raise InputError(f"{name} has no images of its own: its tasks are made as they are needed")
    return data


def _state(name: str, data: ImageSet) -> str:
    if name == "glyphs":
        return "packed" if data.is_packed() else "built in"
    if name == "folder":
        return "your own: data.path=FOLDER"
    if data.is_packed():
        return "packed"
    found = data.found()
    return "missing" if found is None else f"in {found[0]}"


def _summary(data: DataSet) -> dict[str, Source]:
    """Prints what the splits hold."""
    sources = {}
    for split in SPLITS:
        try:
            sources[split] = data.source(split)
        except NoSplit:
            continue
    table = Table(
        box=None, pad_edge=False, title=f"{data.name}, {'x'.join(map(str, data.shape))}", title_justify="left"
    )
    for column in ("split", "classes", "groups", "images", "a class", "fingerprint"):
        table.add_column(column, justify="left" if column in ("split", "fingerprint") else "right")
    for split, source in sources.items():
        count = source.by_class[2]
        each = f"{count.min()}" if count.min() == count.max() else f"{count.min()} to {count.max()}"
        groups = str(len(set(source.groups))) if source.groups else ""
        table.add_row(split, str(len(count)), groups, f"{len(source):,}", each, source.fingerprint)
    stdout.print(table)
    return sources
