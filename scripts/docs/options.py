"""Pages on every option: what the files of `conf/` say, with types from signatures and schemas, and docstrings' words."""

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import griffe
import yaml

from metavision import config
from metavision.records.tables import markdown

CONF = config.folder()
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


class Option(NamedTuple):
    """What a file says of a key."""

    default: str  # as YAML has it
    comment: str = ""


Options = dict[str, Option]  # by dotted path


def pages() -> dict[str, str]:
    """Markdown by path."""
    verbs = {f"options/{verb}.md": _verb(verb) for verb in VERBS}
    groups = {f"options/{group}.md": _group(group) for group in _groups()}
    return {"options/index.md": _index(), **verbs, **groups}


def read(path: Path) -> Options:
    """The keys of one file, without its `defaults`, and the comments that stand beside them."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()

    def beside(mark: yaml.Mark) -> str:
        found = re.search(r"#\s*(.*)", lines[mark.line][mark.column :])
        return found[1] if found else ""

    def walk(node: yaml.MappingNode, prefix: str, above: str) -> Iterator[tuple[str, Option]]:
        for key, value in node.value:
            name = f"{prefix}{key.value}"
            if name == "defaults":
                continue
            flat = isinstance(value, yaml.ScalarNode) or value.flow_style
            comment = beside(value.end_mark if flat else key.end_mark) or above
            if isinstance(value, yaml.MappingNode) and value.value:
                yield from walk(value, f"{name}.", comment)
            else:
                yield name, Option(_written(value), comment)

    root = yaml.compose(text)
    return dict(walk(root, "", "")) if isinstance(root, yaml.MappingNode) else {}


def _written(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return node.value or '""'
    return yaml.serialize(_flowing(node), width=10**6).strip()


def _flowing(node: yaml.Node) -> yaml.Node:
    """The same on one line, without anchors."""
    if isinstance(node, yaml.SequenceNode):
        return yaml.SequenceNode(node.tag, [_flowing(item) for item in node.value], flow_style=True)
    if isinstance(node, yaml.MappingNode):
        pairs = [(_flowing(key), _flowing(value)) for key, value in node.value]
        return yaml.MappingNode(node.tag, pairs, flow_style=True)
    return yaml.ScalarNode(node.tag, node.value, style=node.style)


def composed(path: Path) -> Options:
    """The keys of a file with those that its `defaults` bring into the same node, as Hydra merges them."""
    found: Options = {}
    for place, parent, overrides in _parents(path):
        if overrides:
            found = {key: option for key, option in found.items() if not key.startswith(place)}
        found |= {f"{place}{key}": option for key, option in composed(parent).items()}
    own = read(path)
    said = {key: option._replace(comment=option.comment or _comment(found, key)) for key, option in own.items()}
    return found | said


def _comment(options: Options, key: str) -> str:
    return options[key].comment if key in options else ""


def _defaults(path: Path) -> list[Any]:
    return (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("defaults", [])


def _parents(path: Path) -> Iterator[tuple[str, Path, bool]]:
    """Where in the node, from which file, and whether in the place of an earlier one."""
    for entry in _defaults(path):
        if isinstance(entry, str):
            name, _, place = entry.partition("@")
            place = "" if place == "_here_" else place
            file = path.parent / f"{name}.yaml"
        else:
            ((group, name),) = entry.items()
            group, _, place = group.removeprefix("override ").partition("@")
            file = CONF / group.strip("/") / f"{name}.yaml"
            if not place:  # a choice of another group, which is no part of this node
                continue
        if file.is_file():
            yield (f"{place}." if place else ""), file, not isinstance(entry, str) and "override" in str(entry)


def _choices(path: Path) -> Iterator[str]:
    """The files of other groups that a file chooses, with those of its parents."""
    for entry in _defaults(path):
        if isinstance(entry, dict):
            ((group, name),) = entry.items()
            if "@" not in group:
                yield f"{group.removeprefix('override ').strip('/')}={name}"
        elif (file := path.parent / f"{entry.partition('@')[0]}.yaml").is_file():
            yield from _choices(file)


def _groups() -> list[str]:
    return sorted(path.name for path in CONF.iterdir() if path.is_dir() and path.name not in ALONE)


def _index() -> str:
    rows = [
        {
            "group": f"[`{group}=`]({group}.md)",
            "files": len(list((CONF / group).glob("*.yaml"))),
            "": _plain(WHAT[group]),
        }
        for group in _groups()
        if group in WHAT
    ]
    return f"""# Every option

A configuration is a tree of keys. `GROUP=FILE` chooses a file of `conf/GROUP/`, `KEY=VALUE` sets any key of the tree; lists and
whatever has commas, brackets or spaces go in quotes (`'schedule.milestones=[2000,4000]'`). `null` is nothing. A wrong key,
a wrong type or a number that makes no sense ends the command before any work, all of them told in one line.

```
metavision train algo=maml algo.steps=3 backbone=resnet12 optimizer.lr=0.0005
metavision train --cfg job algo=maml
```

The second shows the whole tree and stops. What the verbs themselves take: [`train`](train.md), [`evaluate`](evaluate.md),
[`adapt`](adapt.md); verbs without a configuration are on the page of [commands](../commands.md).

{markdown(rows)}
These pages are made of the files of `conf/`, of the signatures of what they make, and of its docstrings.
"""


def _plain(text: str) -> str:
    """Without links, which would be another page's."""
    return re.sub(r"\[([^]]+)]\([^)]+\)", r"\1", text)


def _verb(verb: str) -> str:
    path = CONF / f"{verb}.yaml"
    found = read(path)
    chosen = [(key, name) for entry in _defaults(path) if isinstance(entry, dict) for key, name in entry.items()]
    rows = [
        {"group": f"[`{group}=`]({group}.md)", "chosen unless told": _code(str(name).replace("None", "null"))}
        for key, name in chosen
        if (group := key.removeprefix("optional ")) in _groups()
    ]
    hints = dict(_schema(VERBS[verb]))
    return f"# `metavision {verb}`\n\n{_head(path)}\n## Files\n\n{markdown(rows)}\n## Keys\n\n{_table(found, hints)}"


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
        text += f"\n## `{path.stem}`\n\n{_head(path)}{_body(group, path)}"
    return text


def _body(group: str, path: Path) -> str:
    found = composed(path)
    everywhere = "@package _global_" in path.read_text(encoding="utf-8")
    inside = {key: option for key, option in found.items() if not everywhere or key.startswith(f"{group}.")}
    beside = [f"{key}={option.default}" for key, option in found.items() if key not in inside]
    prefix = "" if everywhere else "algo.rule." if group == "rule" else f"{group}."
    inside = {f"{prefix}{key}": option for key, option in inside.items()}
    hints = dict(_schema(SCHEMAS[group], prefix)) if group in SCHEMAS else {}
    sets = [*dict.fromkeys(_choices(path)), *beside]
    text = f"{_maker(inside)}{_table(inside, hints)}"
    return text + (f"\nSets: {', '.join(map(_code, sets))}.\n" if sets else "")


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


def _head(path: Path) -> str:
    """What a file says above its first key: commands as a block, the rest as text."""
    commands, words = [], []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        line = line.removeprefix("#").strip()
        if re.match(r"(\w+=\S+ )?metavision ", line):
            commands.append(re.sub(r"\s{2,}\((.*)\)$", r"    # \1", line))
        elif not line.startswith("@package"):
            words.append(line)
    block = "```\n" + "\n".join(commands) + "\n```\n\n" if commands else ""
    text = " ".join(filter(None, words))
    return block + (f"{text[:1].upper()}{text[1:]}\n\n" if text else "")


def groups_without_words() -> Sequence[str]:
    """Folders of `conf/` that the index leaves out."""
    return [group for group in _groups() if group not in WHAT]
