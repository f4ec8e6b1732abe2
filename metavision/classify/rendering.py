"""Pages about images: one HTML file each, that loads nothing, in one style."""

from importlib.resources import files
from typing import Any

HERE = files("metavision.classify")


def rendered(name: str, /, **values: Any) -> str:
    """The template of this name, filled; it may include `page.css`, what all of them share, for cards `side` wide."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    def source(name: str) -> str:
        return HERE.joinpath(name).read_text("utf-8")

    loader = FunctionLoader(source)
    made = Environment(autoescape=True, undefined=StrictUndefined, loader=loader)
    return made.get_template(name).render(**values)
