"""The making of one classifier, or its change: what may be asked together, and where it goes."""

from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig

from metavision.classify import file, making
from metavision.classify.classifier import Classifier
from metavision.cli.classifiers import show
from metavision.engine import device
from metavision.errors import InputError


def adapted(asked: dict[str, Any]) -> Path:
    """Makes or changes a classifier as asked, writes it, and shows it.

    Returns:
        where it is.

    Raises:
        InputError: what is asked does not go together, or images or weights are not as needed.
    """
    device.configure("fp32", deterministic=False, threads=asked["engine"]["threads"])
    made, path = _changed(asked) if asked["classifier"] is not None else _made(asked)
    made.save(path)
    show(made, path)
    return path


def _made(asked: dict[str, Any]) -> tuple[Classifier, Path]:
    if asked["support"] is None:
        raise InputError(
            "support= is needed: a folder with a folder of images for each class; or classifier=, to change one"
        )
    for key in ("add", "remove"):
        if asked[key] is not None:
            raise InputError(f"{key}= is for a classifier that is there already: classifier=FILE")
    name = Path(asked["support"]).absolute().name.partition(".")[0]
    path = Path(asked["output"] or f"{name}{file.ENDING}")
    file.writable(path)
    if asked["output"] is None and path.exists():
        raise InputError(f"{path} is there already; output={path} makes it anew, classifier={path} changes it")
    return making.made(asked | {"backbone_name": HydraConfig.get().runtime.choices.get("backbone")}), path


def _changed(asked: dict[str, Any]) -> tuple[Classifier, Path]:
    if told := [key for key in ("support", "run", "backbone", "algo") if asked[key] is not None]:
        raise InputError(f"{told[0]}= makes a new classifier; classifier= changes one, by add= and remove=")
    add, remove = (_list(asked[key]) for key in ("add", "remove"))
    if not add and not remove:
        raise InputError("classifier= is to be changed by add=FOLDER or remove=NAME; metavision predict uses it")
    path = Path(asked["output"] or asked["classifier"])
    before = Classifier.load(asked["classifier"], asked["device"])
    file.writable(path)
    return making.changed(before, add, remove, asked["folds"]), path


def _list(value: Any) -> list[str]:
    return [] if value is None else [str(one) for one in value] if isinstance(value, list) else [str(value)]
