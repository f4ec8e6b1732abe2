"""Runs that classifiers are made with."""

from pathlib import Path

import pytest

from tests.classify.photos import run


@pytest.fixture(scope="session")
def protonet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("protonet"), "algo=protonet")


@pytest.fixture(scope="session")
def maml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("maml"), "algo=maml", "episode.way=3", "episode.meta_batch=1")
