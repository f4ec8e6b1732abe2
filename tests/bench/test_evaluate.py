"""The contenders of `bench evaluate` have the same answers, and its rows are complete."""

import pytest
import torch

pytest.importorskip("easyfsl")

from metavision.bench import evaluate
from metavision.data.batches import Episodes
from metavision.data.episodes import EpisodeSampler
from metavision.data.images import Images
from metavision.data.resident import resident
from metavision.data.spec import EpisodeSpec
from metavision.seeds import generator
from tests.algorithms.builds import built
from tests.conftest import toy_source


@pytest.mark.parametrize("n", [30, 3])
def test_both_give_the_same_accuracies(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of fewer episodes than the peer's sample has."""
    monkeypatch.setattr(evaluate, "SAMPLE", {"images": 4, "features": 6})
    monkeypatch.setattr(evaluate, "ROUNDS", 2)
    source = toy_source(classes=6, images=12)
    images = Images(resident(source, torch.device("cpu")))
    episodes = Episodes(EpisodeSampler(source, EpisodeSpec(3, 2, 3), seed=0), images)
    algorithm = built("protonet").for_evaluation()
    meta = algorithm.calibrate(algorithm.init(generator("bench")), episodes.pool(40))
    rows = list(evaluate.rows(algorithm, meta, episodes, n))
    assert [row["work"] for row in rows] == ["images", "features"]
    for row in rows:
        assert row["largest difference"] < 1e-6 and row["episodes"] == n
        assert row["ratio"] == pytest.approx(row["easyfsl ms"] / row["metavision ms"])
