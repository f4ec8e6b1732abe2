"""What a file of `conf/` says: its keys, as Hydra merges them with those of its `defaults`, and its comments."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from metavision import config

CONF = config.folder()


class Option(NamedTuple):
    """What a file says of a key."""

    default: str  # as YAML has it
    comment: str = ""


Options = dict[str, Option]  # by dotted path


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
    replaced = {key for key in found if any(name.startswith(f"{key}.") for name in own)}
    return {key: option for key, option in found.items() if key not in replaced} | said


def _comment(options: Options, key: str) -> str:
    return options[key].comment if key in options else ""


def defaults(path: Path) -> list[Any]:
    return (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("defaults", [])


def _parents(path: Path) -> Iterator[tuple[str, Path, bool]]:
    """Where in the node, from which file, and whether in the place of an earlier one."""
    for entry in defaults(path):
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


def choices(path: Path) -> Iterator[str]:
    """The files of other groups that a file chooses, with those of its parents."""
    for entry in defaults(path):
        if isinstance(entry, dict):
            ((group, name),) = entry.items()
            if "@" not in group:
                yield f"{group.removeprefix('override ').strip('/')}={name}"
        elif (file := path.parent / f"{entry.partition('@')[0]}.yaml").is_file():
            yield from choices(file)


def head(path: Path) -> str:
    """What a file says above its first key: commands as a block, the rest as text."""
    commands, words = [], []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        said = line.removeprefix("#").strip()
        if re.match(r"(\w+=\S+ )?metavision ", said):
            commands.append(re.sub(r"\s{2,}\((.*)\)$", r"    # \1", said))
        elif not said.startswith("@package"):
            words.append(said)
    block = "```\n" + "\n".join(commands) + "\n```\n\n" if commands else ""
    text = " ".join(filter(None, words))
    return block + (f"{text[:1].upper()}{text[1:]}\n\n" if text else "")
