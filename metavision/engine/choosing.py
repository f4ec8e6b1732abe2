"""What is chosen once meta-training is over, on the episodes of validation."""

from dataclasses import replace
from pathlib import Path

from metavision.console import note
from metavision.engine import checkpoint as checkpoints
from metavision.engine import ranks
from metavision.engine.checkpoint import Checkpoint
from metavision.engine.evaluate import evaluate
from metavision.engine.train import Plan


def chosen(plan: Plan, selected: Checkpoint, path: Path) -> Checkpoint:
    """The selected checkpoint with the best of its algorithm's `choices`, the first of equals; written to its path.

    A function of the checkpoint and of the validation episodes alone, so that a resumed run chooses the same. From then
    on the checkpoint holds the choice, as buffers, and under `chosen` every candidate's figure.
    """
    tester = plan.tester
    choices = tester.choices(checkpoints.to(selected.meta, plan.train.device))
    if choices is None:
        return selected
    metric, (options, n) = tester.problem.metric, choices
    figures = {
        name: float(evaluate(tester, meta, plan.validation, n, plan.fit).metrics[metric].mean())
        for name, meta in options.items()
    }
    best = (max if tester.problem.higher else min)(figures, key=lambda name: figures[name])
    note(f"chosen on {n} validation episodes: {best} ({', '.join(f'{k} {v:.4g}' for k, v in figures.items())})")
    about = {**selected.about, "chosen": {"name": best, "metric": metric, "episodes": n, "validation": figures}}
    found = replace(selected, meta=options[best], about=about)
    if ranks.first():
        checkpoints.save(path, found)
    ranks.barrier()  # whoever ends now must not end the first
    return found
