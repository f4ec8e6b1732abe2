"""Pages on what Python code can call: signatures and docstrings, read from the source without importing it."""

import re
from collections.abc import Iterator
from pathlib import Path

import griffe

ROOT = Path(__file__).parents[2]
APART = ("cli", "bench", "sweeping", "adapters")  # commands, and what only they use
WIDTH = 100  # of a signature on one line
FRONT = "metavision"  # the page of the modules that lie in no folder


def pages() -> dict[str, str]:
    """Markdown by path."""
    package = griffe.load("metavision", search_paths=[ROOT], docstring_parser="google")
    folders = {name: one for name, one in package.modules.items() if not one.is_alias and one.is_subpackage}
    rooms = {FRONT: [one for name, one in package.modules.items() if not one.is_alias and name not in folders]}
    rooms |= {name: [one, *_within(one)] for name, one in folders.items() if name not in APART}
    written = {name: _page(name, modules) for name, modules in sorted(rooms.items())}
    found = {f"api/{name}.md": text for name, text in written.items() if text}
    lines = "".join(f"- [{Path(path).stem}]({Path(path).name})\n" for path in found)
    return {"api/index.md": f"# Python API\n\n{INTRODUCTION}\n{lines}", **found}


INTRODUCTION = """What most programs need is `metavision.load`, `metavision.adapt`, `Classifier` and `FewShotClassifier`
([metavision](metavision.md#metavision.api)). The rest is for those who [add an algorithm](../add-an-algorithm.md) or
read results: the legend of shapes stands at [types](metavision.md#metavision.types), the contract of an algorithm at
[algorithms.base](algorithms.md#metavision.algorithms.base).
"""


def _within(module: griffe.Module) -> Iterator[griffe.Module]:
    for name, inner in sorted(module.modules.items()):
        if not inner.is_alias and not name.startswith("_"):
            yield inner
            yield from _within(inner)


def _page(name: str, modules: list[griffe.Module]) -> str:
    parts = [text for module in sorted(modules, key=lambda one: one.path) if (text := _module(module))]
    title = FRONT if name == FRONT else f"{FRONT}.{name}"
    return f"# {title}\n\n" + "\n".join(parts) if parts else ""


def _module(module: griffe.Module) -> str:
    shown = [_object(one) for one in module.members.values() if _told(one) and (one.is_class or one.is_function)]
    if not shown:
        return ""
    name = module.path.removeprefix("metavision.")
    return f"## {name} {{ #{module.path} }}\n\n{_docstring(module)}\n{''.join(shown)}"


def _object(one: griffe.Object) -> str:
    text = f"### {one.name} {{ #{one.path} }}\n\n{_signature(one)}\n{_docstring(one)}\n"
    methods = [m for m in one.members.values() if one.is_class and _told(m) and m.is_function]
    if methods:
        text += "**Methods**\n\n"
    for method in methods:
        told = _docstring(method).replace("\n", "\n    ").rstrip()
        text += f"- `{method.name}{_arguments(method)}`\n\n    {told}\n\n"
    return text


def _told(one: griffe.Object | griffe.Alias) -> bool:
    """Whether it is public, made here, and has words."""
    return not one.is_alias and not one.name.startswith("_") and bool(one.docstring)


def _signature(one: griffe.Object) -> str:
    line = f"{'class ' if one.is_class else ''}{one.name}{_arguments(one)}"
    if len(line) > WIDTH:
        words = _parameters(one)
        line = line[: line.index("(")] + "(\n    " + ",\n    ".join(words) + ",\n)" + _returned(one)
    return f"```python\n{line}\n```\n"


def _arguments(one: griffe.Object) -> str:
    return f"({', '.join(_parameters(one))}){_returned(one)}" if one.is_function or _parameters(one) else ""


def _returned(one: griffe.Object) -> str:
    return f" -> {one.returns}" if one.is_function and one.returns is not None else ""  # type: ignore[attr-defined]


def _parameters(one: griffe.Object) -> list[str]:
    """As they are written, without `self`."""
    if one.is_class and "NamedTuple" in map(str, one.bases):  # type: ignore[attr-defined]
        return [f"{name}: {field.annotation}" for name, field in one.members.items() if field.is_attribute]
    words, starred = [], False
    for parameter in one.parameters:  # type: ignore[attr-defined]
        if parameter.name in ("self", "cls"):
            continue
        if parameter.kind is griffe.ParameterKind.keyword_only and not starred:
            words.append("*")
        starred |= parameter.kind in (griffe.ParameterKind.keyword_only, griffe.ParameterKind.var_positional)
        word = {griffe.ParameterKind.var_positional: "*", griffe.ParameterKind.var_keyword: "**"}.get(
            parameter.kind, ""
        )  # type: ignore[call-overload]
        word += parameter.name
        if parameter.annotation is not None:
            word += f": {parameter.annotation}"
        if parameter.default is not None and not word.startswith("*"):
            word += f" = {parameter.default}" if parameter.annotation is not None else f"={parameter.default}"
        words.append(word)
    return words


def _docstring(one: griffe.Object) -> str:
    if not one.docstring:
        return ""
    return "\n".join(_section(section) for section in one.docstring.parse("google", warnings=False))


def _section(section: griffe.DocstringSection) -> str:
    kinds = griffe.DocstringSectionKind
    if section.kind is kinds.text:
        return "\n\n".join(_paragraph(text) for text in section.value.split("\n\n")) + "\n"
    if section.kind is kinds.admonition:
        return f"**{section.title}.** {literal(section.value.description)}\n"
    told = {kinds.parameters: "Arguments", kinds.raises: "Raises", kinds.returns: "Returns", kinds.yields: "Yields"}
    if section.kind not in told:
        return ""
    lines = []
    for each in section.value:
        name = each.annotation if section.kind is kinds.raises else each.name
        lines.append(f"- {f'`{name}`: ' if name else ''}{literal(' '.join(each.description.split()))}\n")
    return f"**{told[section.kind]}**\n\n{''.join(lines)}"


def _paragraph(text: str) -> str:
    """Prose, or a session of Python."""
    return f"```pycon\n{text.replace('  # doctest: +SKIP', '')}\n```" if text.startswith(">>>") else literal(text)


def literal(text: str) -> str:
    """Text with what Markdown would take for marks escaped, but for code in backquotes."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([*_<\[\]])", r"\\\1", part) for part in parts)
