"""A policy that is tried out in simulated worlds while it learns, from the command line."""

import pytest
import torch

from configs import evaluating
from configs.cli import main
from configs.environments import episode_seeds, make_env, seen_as
from configs.evaluating import SELECTION_SEEDS, SimulationEvaluator, evaluator_of
from configs.run_directory import load_config
from configs.serialization import from_json
from configs.training import Config, EvaluateConfig
from configs.worlds import EnvConfig
from envs.simulators.libero import libero_embodiment
from envs.specs import image_key
from policies.data.dataset import DemonstrationDataset
from policies.policy import ChunkPolicy
from policies.training.metrics import read_metrics

SMALL = ["--env.image-size-px", "32", "--env.threads", "1"]
FEW = ["--train.steps", "4", "--train.save-every", "2", "--train.log-every", "2", "--train.threads", "1"]
OFTEN = ["--evaluate.every", "2", "--evaluate.episodes", "2", "--evaluate.env.threads", "1"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "reach"
    assert main(["collect", "reach", "--episodes", "3", "--path", str(path), *SMALL]) == 0
    return path


def train(dataset, outputs, *more):
    return main(["train", "debug", "--data", str(dataset), "--outputs", str(outputs), *FEW, *more])


def test_a_run_is_tried_out_and_its_best_checkpoint_evaluated(dataset, tmp_path, capsys):
    assert train(dataset, tmp_path, *OFTEN) == 0
    (run_dir,) = tmp_path.glob("train/*/*")
    lines = [line for line in read_metrics(run_dir) if "success/reach" in line]
    assert [line["step"] for line in lines] == [2, 4]
    best = max(lines, key=lambda line: (line["success/all"], line["step"]))["step"]
    assert (run_dir / "checkpoints/best").readlink().as_posix() == f"{best:06d}"
    printed = capsys.readouterr().out
    assert f"step {best}, success" in printed and "on reach; 2 episodes each; train phrasings" in printed
    assert "success/reach" in (run_dir / "report.html").read_text()
    assert load_config(Config, run_dir).evaluate.every == 2
    quick = ["--tasks", "reach", "--episodes", "1", "--videos", "0", *SMALL, "--outputs", str(tmp_path)]
    assert main(["eval", str(run_dir / "checkpoints/best"), *quick]) == 0


class Still(ChunkPolicy):
    """Looks, and does not move."""

    def __init__(self, embodiment):
        super().__init__(embodiment, horizon=25, replan_interval=25)
        self.seen = []

    def predict_chunk(self, observation):
        self.seen.append(observation[image_key("front")].clone())
        return torch.zeros(len(self.seen[-1]), self.horizon, self.embodiment.action_dim)


def test_its_episodes_are_none_that_an_evaluation_begins_with(dataset):
    worlds = EnvConfig(threads=1)
    evaluator = evaluator_of(
        Config(data=(dataset,), evaluate=EvaluateConfig(every=1, episodes=3, num_envs=3, env=worlds))
    )
    policy = Still(DemonstrationDataset(dataset).embodiment)
    assert evaluator.outcomes(policy) == {"reach": (False, False, False)}
    env = make_env("reach", 3, stream="evaluate", config=seen_as(policy.embodiment, worlds))
    try:
        chosen, judged = (
            env.reset(episode_seeds(3, first))[image_key("front")].clone() for first in (SELECTION_SEEDS, 0)
        )
    finally:
        env.close()
    assert torch.equal(policy.seen[0], chosen) and not torch.equal(chosen, judged)


class Shut:
    """A world of LIBERO's robot that is only made and closed."""

    embodiment = libero_embodiment()

    def close(self):
        pass


def test_no_checkpoint_is_chosen_by_the_states_that_libero_judges_by(monkeypatch):
    streams = {}

    def make(task, num_envs, *, stream, **settings):
        streams[task] = stream
        return Shut()

    monkeypatch.setattr(evaluating, "make_env", make)
    evaluator = SimulationEvaluator(EvaluateConfig(every=1), Shut.embodiment, ["libero-goal/7", "reach"])
    evaluator.check()
    assert streams == {"libero-goal/7": "learn", "reach": "evaluate"}
    assert evaluator.about.endswith("train phrasings; LIBERO's scenes drawn anew")
    assert "LIBERO" not in SimulationEvaluator(EvaluateConfig(every=1), Shut.embodiment, ["reach"]).about


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--evaluate.every", "2", "--evaluate.tasks", "reech"], "unknown task or suite 'reech'"),
        (["--evaluate.every", "2", "--evaluate.env.robot", "so100"], "cannot be evaluated on reach in the worlds of"),
        (["--evaluate.every", "2", "--evaluate.env.image-size-px", "96"], "expects image_size_px 32, got 96"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_before_any_work(dataset, tmp_path, capsys, flags, message):
    assert train(dataset, tmp_path / "outputs", *flags) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tasks": ("reach",)}, "say how often to evaluate on reach: evaluate.every N"),
        ({"every": -1}, r"must be 0 \(never\) or more steps, got -1"),
        ({"every": 2, "episodes": 0}, "evaluate.episodes must be at least 1, got 0"),
        ({"every": 2, "num_envs": 0}, "evaluate.num_envs must be at least 1, got 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        EvaluateConfig(**fields)


def test_nothing_is_evaluated_unless_asked_for(dataset):
    config = Config(data=(dataset,))
    assert evaluator_of(config) is None and from_json(Config, {"data": [str(dataset)]}) == config
