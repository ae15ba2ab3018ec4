"""Pre-training that begins with learned weights, and keeps to what the network became when it learned further."""

from dataclasses import replace

import pytest
import torch
from discs import DiscScenes, result, run, tiny_backbone, tiny_pretraining
from stopping import stopped_before

from policies.pretraining.config import HELD_OUT_SEEDS
from policies.pretraining.learner import PretrainLearner
from policies.pretraining.trainer import Before
from policies.training.checkpoint import CheckpointError
from vla.base import load_base
from vla.objectives.looking import Looking
from vla.objectives.objective import ObjectiveWeights

KEEPING = ObjectiveWeights(caption=0, answer=0, matching=0, features=0.5)
LOOKING = replace(KEEPING, features=0)


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """What there is at first."""
    return run(tmp_path_factory.mktemp("first"), weights=LOOKING).backbone


@pytest.fixture(scope="module")
def further(tmp_path_factory, first):
    """The same network after it has learned further."""
    return run(tmp_path_factory.mktemp("further"), weights=LOOKING, before=Before(start=first), steps=16).backbone


def learner(**before):
    bases = {name: load_base(path) for name, path in before.items()}
    weights = KEEPING if "further" in before else LOOKING
    return PretrainLearner(tiny_pretraining(weights=weights), tiny_backbone(), DiscScenes(), **bases)


def test_it_begins_with_the_weights_of_the_first(first):
    base, begun = load_base(first), learner(start=first).objectives.backbone.state_dict()
    assert base.weights and all(begun[name].equal(weight) for name, weight in base.weights.items())


def test_in_another_scale_of_the_state_it_sees_the_same(first):
    points, scenes = [], DiscScenes().batch(learner(start=first)._of_step(0))
    for tables in (16, 9):
        config = tiny_pretraining(weights=LOOKING, statistics_tables=tables)
        begun = PretrainLearner(config, tiny_backbone(), DiscScenes(), start=load_base(first))
        begun.objectives.eval()
        material, looking = begun.inputs(scenes), begun.objectives.get(Looking)
        sight = begun.objectives.backbone.look(material.read(material.referents.words), material.referents.about)
        points.append((begun.base_config.state, looking.point_m(sight).detach()))
    assert points[0][0] != points[1][0]
    torch.testing.assert_close(points[0][1], points[1][1], rtol=1e-4, atol=1e-5)


def test_features_are_those_of_the_network_that_learned_further(first, further):
    keeping = learner(start=first, further=further)
    material = keeping.inputs(DiscScenes().batch(keeping._of_step(0)))
    found = keeping.objectives.eval()(material)
    pooled = [
        load_base(path).build().patches(material.silent(len(material.images)))[0].mean(dim=1)
        for path in (first, further)
    ]
    expected = ((pooled[0] - pooled[1]) ** 2).mean()
    assert float(expected.detach()) > 0
    torch.testing.assert_close(found.terms["features"].mean, expected)
    names = dict(keeping.objectives.named_parameters())
    assert not any("further" in name for name in names) and keeping.config.first_seed == HELD_OUT_SEEDS


def test_a_run_that_keeps_features_goes_on_as_if_undisturbed(tmp_path, first, further):
    before = Before(start=first, further=further)
    run(tmp_path / "whole", weights=KEEPING, before=before)
    with stopped_before(6, PretrainLearner):
        run(tmp_path / "stopped", weights=KEEPING, before=before)
    run(tmp_path / "stopped", weights=KEEPING, before=before, resume=True)
    assert result(tmp_path / "whole") == result(tmp_path / "stopped")
    with pytest.raises(CheckpointError, match="further"):
        run(tmp_path / "whole", weights=KEEPING, before=Before(further=first), resume=True, steps=16)


def test_weights_and_networks_that_do_not_fit_are_refused(tmp_path, first, further):
    with pytest.raises(ValueError, match="need a weight above 0 and a network that has learned further"):
        run(tmp_path, weights=LOOKING, before=Before(further=further))
    with pytest.raises(ValueError, match="need a weight above 0 and a network that has learned further"):
        run(tmp_path, weights=KEEPING, before=Before(start=first))
    with pytest.raises(ValueError, match=r"is another one:\n.*width: 32 there, 16 now"):
        run(tmp_path, weights=LOOKING, before=Before(start=first), backbone=tiny_backbone(width=16))
    with pytest.raises(CheckpointError, match=r"no model\.safetensors in any of"):
        run(tmp_path, weights=LOOKING, before=Before(start=tmp_path))
