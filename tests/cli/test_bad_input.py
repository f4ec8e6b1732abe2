"""Bad input ends in one clear line and exit code 2, before any work, and leaves nothing behind."""

from pathlib import Path

import pytest

from metavision.cli.__main__ import main

CASES = {
    "trian": "there is no verb trian; did you mean train?",
    "train algo=mamll": "there is no algo=mamll; did you mean maml? there are anil, baseline, ",
    "train experiment=maml-omniglot-5w2s": "did you mean maml-omniglot-5w5s? there are maml-omniglot-5w5s, ",
    "train algoo=maml": "has no option algoo; did you mean algo?",
    "train algo=maml algo.stepz=3": "algo has no option stepz; did you mean steps?",
    "train algo=maml algo.steps=x": "algo.steps is 'x', of type str; it must be a whole number",
    "train episode.shot=abc": "episode.shot: Value 'abc' of type 'str' could not be converted to Integer",
    "train episode.shot=-1": "shot is -1; an episode needs at least 1",
    "train episode.way=1": "way is 1; an episode needs at least 2",
    "train episode.meta_batch=0": "episode.meta_batch is 0; it must be at least 1",
    "train budget.steps=-4": "budget.steps is -4; it must be at least 0",
    "train optimizer.lr=-1": "optimizer: Invalid learning rate: -1",
    "train clip=-1": "clip is -1.0; it must be above 0",
    "train schedule=step schedule.every=0": "schedule.every is 0; it must be at least 1",
    "train schedule=multistep schedule.milestones=5": "schedule.milestones is 5, of type int; it must be a list",
    "train backbone=mlp backbone.hidden=[40,x]": "backbone.hidden is [40, 'x'], of type list; it must be a list",
    "train +augment.foo=1": "augment has no option foo; there are batch, mix, query",
    "train backbone.filters=0": "backbone: 0 features are none to learn by",
    "train backbone=conv512 backbone.drop=2": "backbone: dropout probability has to be between 0 and 1, but got 2",
    "train backbone=pixels": "nothing to learn; budget.steps=0 tests it as it is",
    "train algo=maml data=sinusoid references=[pixels]": "the reference pixels tells images apart",
    "train algo=rfs algo.teacher=5": "algo.teacher is 5; it must be the path of a run or a checkpoint",
    "train algo=rfs augment=rotations": "augment.mix and augment.turn_classes are of episodes",
    "train ~schedule.every schedule=step": "schedule lacks every",
    "train algo=tim algo.steps=-1": "algo.steps=-1 not negative",
    "train norm=bach": "backbone.norm is 'bach', of type str; it must be batch or running or group or none",
    "train references=[me]": "there is no reference me; there are pixels, untrained",
    "train data=omniglot data.root=nowhere data.size=20 data.download=false": "place images_background.zip",
    "train init=nowhere": "there is nothing at nowhere",
    "train outputs=/dev/null/here": "can't be written",
    "train -m algo=maml,mamll": "there is no algo=mamll; did you mean maml?",
    "train engine.mapping=grph": "engine.mapping: Invalid value 'grph', expected one of [auto, loop, vmap, graph]",
    "train engine.mapping=graph device=cpu": "engine.mapping=graph needs a CUDA device, and this is cpu",
    "train engine.mapping=vmap engine.channels_last=true": "engine.channels_last=true is of engine.mapping=loop",
    "train engine.channels_last=5x": "engine.channels_last: Value '5x' is not a valid bool",
    "train engine.data_memory=inf": "engine.data_memory is inf; it must be above 0, and a number",
    "train engine.adapter=5": "engine.adapter is 5, which can't be imported: Empty module name",
    "train algo=5": "algo=5 logger=none can't be composed: Config group override must be a string or a list. Got int",
    "train episode.shot=${nope}": "episode.shot: Interpolation key 'nope' not found",
    "train engine.on_nan=maybe": "engine.on_nan: Invalid value 'maybe', expected one of [stop, skip, rollback]",
    "train algo._target_=os.sep": "algo._target_ is os.sep, which is a str, and makes nothing",
    "train algo._target_=metavision.config.Train": "metavision.config.Train, which has no meta_grad",
    "train problem._target_=metavision.types.Meta ++problem.params=1 ++problem.buffers=1": (
        "Meta can't be made here: got an unexpected keyword argument 'way'"
    ),
    "train backbone.filters=-9223372036854775809": "backbone: empty(): argument 'size' failed to unpack",
    "train ~scaling": "a value is needed for scaling",
    "train episode.train=${seed}": "a value is needed for episode.train",
    "train augment.mix='7'": "augment.mix is '7', of type str; it must be a number or null",
    "train augment.batch=3": "augment.batch is 3, of type int; it must be Augmentation or null",
    "train algo=maml algo.rule=5": "algo.rule is 5, of type int; it must be Rule",
    f"train algo={'x' * 5000}": "File name too long",
    "train +episode.train.ways=7": "episode.train has no option ways; did you mean way",
    "train +episode.x=1 +budget.stepz=3": "episode has no option x",
    "train engine.memory=0": "engine.memory is 0.0; it must be above 0",
    "train engine.devices=0": "engine.devices is 0; it must be at least 1",
    "train engine.chunk=0": "engine.chunk is 0; it must be at least 1",
    "train episode.train.way=9999": "9999-way episodes need 9999 classes; glyphs train has",
    "evaluate run=nowhere": "there is nothing at nowhere",
    "evaluate": "a value is needed for run",
    "completion tcsh": "there is no completion for tcsh",
}


@pytest.mark.parametrize("line", CASES)
def test_one_line_and_exit_code_2(line: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = line.split() + (["logger=none"] if line.startswith("train") else [])
    assert main(words) == 2
    error = capsys.readouterr().err.removeprefix("packing glyphs: 20680 images\n")  # where the cache is still empty
    assert CASES[line] in error
    assert error.startswith("metavision: error: ") and error.count("\n") == 1
    assert not list(tmp_path.rglob("seed*"))
