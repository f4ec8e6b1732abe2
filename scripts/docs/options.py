"""Pages on every option: what the files of `conf/` say, types of signatures and schemas, and docstrings' words."""

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

import griffe
from files import CONF, Options, choices, composed, defaults, head, read

from metavision import config
from metavision.records.tables import markdown

VERBS = {"train": config.Train, "evaluate": config.Evaluate, "adapt": config.Adapt}
SCHEMAS = {"engine": config.Engine, "budget": config.Budget}  # of files without a target
ALONE = ("common", "verb")  # folders of parts that nobody chooses
TARGET = "_target_"
WHAT = {
    "algo": "What is learned, and how a task is: [the algorithms in words](../algorithms.md).",
    "augment": "What is done to the images of training: [slots and operations](../data.md#augmentation).",
    "backbone": "Images to features: [those with weights of their own](../pretrained.md).",
    "budget": "How long training, validation and test are.",
    "data": "Where tasks come from: [layouts, splits, licences](../data.md).",
    "engine": "How the work is carried out; none of it but `precision` and `calibration_images` can change a result.",
    "experiment": "A published figure with its settings, each of which is set below.",
    "logger": "Where copies of `metrics.jsonl` go.",
    "optimizer": "The outer loop's, of torch.",
    "problem": "What the answers of a task are.",
    "protocol": "Published settings of an algorithm on a data set. One applies by itself where both are chosen.",
    "rule": "An inner-loop update: `rule@algo.rule=FILE`, of algorithms that have one.",
    "schedule": "The factor on the outer learning rate, by the step.",
}


def pages() -> dict[str, str]:
    """Markdown by path."""
    verbs = {f"options/{verb}.md": _verb(verb) for verb in VERBS}
    groups = {f"options/{group}.md": _group(group) for group in _groups()}
    return {"options/index.md": _index(), **verbs, **groups}


def _groups() -> list[str]:
    return sorted(path.name for path in CONF.iterdir() if path.is_dir() and path.name not in ALONE)


def _index() -> str:
    rows = [
        {
            "group": f"[`{group}=`]({group}.md)",
            "files": len(list((CONF / group).glob("*.yaml"))),
            "": _plain(WHAT.get(group, "")),
        }
        for group in _groups()
    ]
    return f"""# Every option

A configuration is a tree of keys. `GROUP=FILE` chooses a file of `conf/GROUP/`, `KEY=VALUE` sets any key of the tree;
lists and whatever has commas, brackets or spaces go in quotes (`'schedule.milestones=[2000,4000]'`). `null` is nothing.
A wrong key, a wrong type or a number that makes no sense ends the command before any work, all told in one line.

```
metavision train algo=maml algo.steps=3 backbone=resnet12 optimizer.lr=0.0005
metavision train --cfg job algo=maml
```

The second shows the whole tree and stops. What the verbs themselves take: [`train`](train.md),
[`evaluate`](evaluate.md), [`adapt`](adapt.md); the other verbs have no configuration ([commands](../commands.md)).

{markdown(rows)}
These pages are made of the files of `conf/`, of the signatures of what they make, and of its docstrings.
"""


def _plain(text: str) -> str:
    """Without links, which would be another page's."""
    return re.sub(r"\[([^]]+)]\([^)]+\)", r"\1", text)


def _verb(verb: str) -> str:
    path = CONF / f"{verb}.yaml"
    chosen = [(key, name) for entry in defaults(path) if isinstance(entry, dict) for key, name in entry.items()]
    rows = [
        {"group": f"[`{group}=`]({group}.md)", "chosen unless told": _code(str(name).replace("None", "null"))}
        for key, name in chosen
        if (group := key.removeprefix("optional ")) in _groups()
    ]
    keys = _table(read(path), dict(_schema(VERBS[verb])))
    return f"# `metavision {verb}`\n\n{head(path)}\n## Files\n\n{markdown(rows)}\n## Keys\n\n{keys}"


def _schema(schema: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Types of the keys of a dataclass, and of those within it."""
    hints = get_type_hints(schema)
    for option in fields(schema):
        hint = hints[option.name]
        yield f"{prefix}{option.name}", hint
        if is_dataclass(hint):
            yield from _schema(hint, f"{prefix}{option.name}.")


def _group(group: str) -> str:
    text = f"# `{group}=`\n\n{WHAT.get(group, '')}\n"
    for path in sorted((CONF / group).glob("*.yaml")):
        text += f"\n## `{path.stem}`\n\n{head(path)}{_body(group, path)}"
    return text


def _body(group: str, path: Path) -> str:
    found = composed(path)
    everywhere = "@package _global_" in path.read_text(encoding="utf-8")
    inside = {key: option for key, option in found.items() if not everywhere or key.startswith(f"{group}.")}
    beside = [f"{key}={option.default}" for key, option in found.items() if key not in inside | _paper(found)]
    prefix = "" if everywhere else "algo.rule." if group == "rule" else f"{group}."
    inside = {f"{prefix}{key}": option for key, option in inside.items()}
    hints = dict(_schema(SCHEMAS[group], prefix)) if group in SCHEMAS else {}
    sets = [*dict.fromkeys(choices(path)), *beside]
    text = _maker(inside) + (_table(inside, hints) if inside or not sets else "") + _published(_paper(found))
    return text + (f"\nSets: {', '.join(map(_code, sets))}.\n" if sets else "")


def _paper(options: Options) -> Options:
    return {key: option for key, option in options.items() if key.startswith("paper.")}


def _published(paper: Options) -> str:
    """A published figure as a sentence."""
    if not paper:
        return ""
    said = {key.removeprefix("paper."): option.default for key, option in paper.items()}
    spread = f" ± {said['half_width']}" if "half_width" in said else ""
    doubt = " (from memory)" if said.get("verified") == "false" else ""
    note = f"; {said['note']}" if "note" in said else ""
    return f"Published: {said['accuracy']}{spread} %{doubt}, [{said['source']}]({said['link']}){note}.\n"


def _maker(options: Options) -> str:
    """What is made of a node."""
    place = min((key for key in options if key.endswith(TARGET)), key=len, default="")
    if place.count(".") != 1 and not place.startswith("algo.rule."):
        return ""
    target = options[place].default
    if not target.startswith("metavision."):
        return f"Makes `{target}`.\n\n"
    page = target.split(".")[1]
    line = (inspect.getdoc(config.locate(target)) or "").partition("\n\n")[0].replace("\n", " ")
    if page == "adapters":
        return f"Makes `{target}`: {line}\n\n"
    return f"Makes [`{target.rpartition('.')[2]}`](../api/{page}.md#{target}): {line}\n\n"


def _table(options: Options, hints: Mapping[str, Any]) -> str:
    shown = {key: option for key, option in options.items() if not key.endswith(TARGET)}
    rows = [
        {
            "key": _code(key),
            "unless told": _code(option.default),
            "takes": _kind(_hint(options, key) or hints.get(key)),
            "meaning": option.comment or _argument(options, key),
        }
        for key, option in shown.items()
    ]
    return markdown(rows) if rows else "It has no keys.\n"


def _enclosing(options: Options, key: str) -> tuple[Any, str]:
    """What a key is an argument of, and its name there."""
    parts = key.split(".")
    for n in range(len(parts) - 1, -1, -1):
        place = ".".join([*parts[:n], TARGET])
        if place in options:
            return config.locate(options[place].default), parts[n]
    return None, ""


def _hint(options: Options, key: str) -> Any:
    target, name = _enclosing(options, key)
    if target is None or name != key.rpartition(".")[2]:
        return None
    try:
        return get_type_hints(target.__init__ if inspect.isclass(target) else target).get(name)
    except (NameError, TypeError):  # foreign annotations may name what only type checkers import
        return None


def _argument(options: Options, key: str) -> str:
    target, name = _enclosing(options, key)
    return "" if target is None else _arguments(target).get(name, "")


@cache
def _arguments(target: Any) -> Mapping[str, str]:
    """What docstrings say of the arguments of a class, its bases among them, or of a function."""
    found: dict[str, str] = {}
    for owner in reversed(inspect.getmro(target)) if inspect.isclass(target) else [target]:
        if (owner.__module__ or "").startswith("metavision"):
            for section in griffe.Docstring(inspect.cleandoc(owner.__doc__ or "")).parse("google", warnings=False):
                if section.kind is griffe.DocstringSectionKind.parameters:
                    found |= {each.name: " ".join(each.description.split()).removesuffix(".") for each in section.value}
    return found


def _kind(hint: Any) -> str:
    return "" if hint is None else re.sub(r"\bbool\b", "true or false", re.sub(r"\w+\.", "", config.describe(hint)))


def _code(text: str) -> str:
    return f"`{text}`" if text else ""
