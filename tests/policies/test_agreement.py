"""Agreement of words with deeds: planted truths and lies are counted as such, and a network's words arrive."""

import json
from collections import Counter

import pytest
import torch
from demonstrations import TINY_HEADS, tiny_policy, tiny_training
from point_mass import PointMassEnv
from policy_contract import PolicyContract
from talking import MetricPointMass, record_metric, talking_network

from configs.report.results import agreement_sections
from envs.specs import STATE_KEY, TASK_KEY
from policies.agreement import Said, agreement
from policies.conditions import Condition
from policies.episode_log import EpisodeLog, EpisodeRecord
from policies.evaluation import evaluate
from policies.imitation.learner import ImitationLearner
from policies.imitation.stages import Stage
from policies.imitation.trainer import train
from policies.intervals import wilson
from policies.narration import Narrator
from policies.policy import ChunkPolicy
from policies.vla_policy import VLAPolicy
from vla.observation import rows

NARRATOR = Narrator(MetricPointMass(1).embodiment)


def said(sentence, velocity_m=(0.03, 0.0), moved_m=None):
    chunk, before = torch.tensor(velocity_m).expand(4, 2), torch.zeros(2)
    after = None if moved_m is None else torch.tensor(moved_m)
    return Said(sentence, chunk, before, after, 4 if after is not None else 0)


def test_truths_and_lies_are_counted_of_chunks_and_of_deeds_apart():
    true, lie, junk = "moving forward", "moving left", "bananas"
    decisions = [said(true, moved_m=(0.1, 0.0))] * 5 + [said(true, moved_m=(0.0, 0.1))] * 2
    decisions += [said(lie, moved_m=(0.0, 0.1)), said(junk, moved_m=(0.1, 0.0)), said(true)]
    found = agreement(NARRATOR, decisions)
    assert (found.decisions, found.outlasted, found.unheard) == (10, 9, 1)
    assert found.chunk == wilson(8, 10) and found.deed == wilson(6, 9)
    assert found.sentences == {true: 8, lie: 1, junk: 1}
    assert found.chunk_by_chance == pytest.approx(0.8), "forward is true of all chunks, and 8 of 10 sentences say so"
    # deeds: 6 forward and 3 left, of 9 sentences 7 say forward and 1 says left
    assert found.deed_by_chance == pytest.approx((7 * 6 + 1 * 3) / 81)
    assert "agrees with its actions in 80% [49%, 94%], by chance 80%, of 10 decisions; and with what" in str(found)
    json.dumps(found.to_dict(), allow_nan=False)


def test_what_no_episode_outlasts_is_undefined_and_no_decision_at_all_is_refused():
    found = agreement(NARRATOR, [said("moving forward")])
    assert found.outlasted == 0 and found.to_dict()["deed"] is None and found.to_dict()["deed_by_chance"] is None
    assert "did" not in str(found)
    with pytest.raises(ValueError, match="no decisions"):
        agreement(NARRATOR, [])


class Talker(ChunkPolicy):
    """Goes right on some seeds and left on others, and says so; every ``lies``-th time it says the opposite."""

    def __init__(self, embodiment, lies=0, replan_interval=2):
        super().__init__(embodiment, horizon=4, replan_interval=replan_interval)
        self.lies, self.count = lies, 0

    def predict_chunk(self, observation):
        side = torch.where(observation[STATE_KEY][:, 1] > 0, 1.0, -1.0)
        chunk = torch.zeros(len(side), 4, 2)
        chunk[..., 1] = 0.02 * side[:, None]
        return chunk

    def plan(self, state, observation, mask):
        _, plan = super().plan(state, observation, mask)
        answers = []
        for asked, chunk in zip(mask.tolist(), plan.actions, strict=True):
            self.count += asked
            lies = self.lies and self.count % self.lies == 0
            answers.append(("moving left" if (chunk[0, 1] > 0) != lies else "moving right") if asked else "")
        return None, plan._replace(answers=tuple(answers))


def evaluated(lies=0, obeys=1.0, policy=None, num_envs=4, replan_interval=2):
    env = MetricPointMass(num_envs, max_episode_steps=10)
    env.obeys = obeys
    policy = policy or Talker(env.embodiment, lies, replan_interval)
    return evaluate(env, policy, range(10), show_progress=False)


@pytest.mark.parametrize("num_envs", [1, 4, 10])
def test_an_evaluation_tells_who_speaks_the_truth(num_envs):
    found = evaluated(num_envs=num_envs).agreement
    assert found.chunk.value == found.deed.value == 1 and found.decisions == 50
    assert found.outlasted == 40, "of 5 decisions in 10 steps the last one's 4 steps are cut off"
    assert 0.3 < found.chunk_by_chance < 0.8 and Counter(found.sentences).total() == 50


def test_an_evaluation_tells_who_lies_and_who_is_not_obeyed(tmp_path):
    found = evaluated(lies=5).agreement
    assert found.chunk == wilson(40, 50) and found.deed.value == pytest.approx(0.8, abs=0.1)
    thwarted = evaluated(obeys=-1.0, replan_interval=4)
    assert thwarted.agreement.chunk.value == 1 and thwarted.agreement.deed.value == 0
    thwarted.save(tmp_path / "result.json")
    kept = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))["agreement"]
    assert kept["deed"]["value"] == 0 and kept["sentences"] == thwarted.agreement.sentences
    (section,) = agreement_sections([thwarted])
    assert section.facts == {"point, given instruction": str(thwarted.agreement)}


@pytest.mark.parametrize("num_envs", [1, 3])
def test_an_evaluation_that_was_stopped_has_the_agreement_of_one_that_was_not(tmp_path, num_envs):
    env, condition = MetricPointMass(4, max_episode_steps=10), Condition(task="point")
    env.obeys = -1.0
    with EpisodeLog(tmp_path / "episodes.jsonl") as log:
        whole = evaluate(
            env,
            Talker(env.embodiment),
            range(10),
            keep=lambda episode: log.append(EpisodeRecord(condition=condition, episode=episode)),
            show_progress=False,
        )
    with EpisodeLog(tmp_path / "episodes.jsonl") as log:
        finished = {seed: episode for seed, episode in log.of(condition).items() if seed % 3}
    env = MetricPointMass(num_envs, max_episode_steps=10)
    env.obeys = -1.0
    again = evaluate(env, Talker(env.embodiment), range(10), finished=finished, show_progress=False)
    assert again.agreement == whole.agreement and again.episodes == whole.episodes and len(finished) == 6


def test_who_says_nothing_has_no_agreement_and_whom_nobody_understands_neither(caplog):
    mute = ChunkPolicy.plan
    env = MetricPointMass(2, max_episode_steps=4)
    quiet = Talker(env.embodiment)
    quiet.plan = mute.__get__(quiet)
    result = evaluate(env, quiet, range(2), show_progress=False)
    assert agreement_sections([result]) == []
    assert result.agreement is None and result.to_dict()["agreement"] is None
    foreign = PointMassEnv(2, max_episode_steps=4)
    assert evaluate(foreign, Talker(foreign.embodiment), range(2), show_progress=False).agreement is None
    assert "whether what is said agrees with what is done cannot be told" in caplog.text


class TestTalkingPolicy(PolicyContract):
    @pytest.fixture
    def make_policy(self):
        return lambda env: tiny_policy(head=TINY_HEADS["chat"])


def test_answers_come_with_the_plan_of_the_worlds_that_were_asked_and_can_be_left_out():
    policy = tiny_policy(head=TINY_HEADS["chat"])
    observation = PointMassEnv(3).reset([1, 2, 3])
    assert observation[TASK_KEY]
    mask = torch.tensor([True, False, True])
    _, plan = policy.plan(None, observation, mask)
    whole = policy.plan(None, observation, torch.ones(3, dtype=torch.bool))[1]
    assert plan.answers == (whole.answers[0], "", whole.answers[2]) and all(whole.answers)
    assert whole.actions.equal(policy.predict_chunk(observation))
    silent = VLAPolicy(policy.vla, policy.normalization, policy.embodiment, 2, answer=False)
    assert silent.plan(None, observation, mask)[1].answers == ()
    assert not silent.predict_chunk(observation).equal(whole.actions)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return record_metric(tmp_path_factory.mktemp("data") / "store")


def test_targets_say_what_the_recorded_actions_do(store):
    learner = ImitationLearner(tiny_training(stages=(Stage(),)), talking_network(), [store])
    batch = learner.demonstrations.batch(0, 0, 16)
    _, target = learner.inputs(batch, 0, learner.normalization)
    expected = [NARRATOR.sentences[i] for i in NARRATOR.said_of(batch.actions, batch.valid).tolist()]
    assert learner.vla.backbone.read(target.told) == expected and len(set(expected)) > 2
    ends = target.told_mask.sum(dim=1) - 1
    assert (target.told[torch.arange(16), ends] == learner.vla.head.end_id).all()
    part = rows(target, torch.tensor([3]))
    assert part.told.equal(target.told[3:4]) and part.told_mask.equal(target.told_mask[3:4])


def test_robots_that_cannot_be_spoken_of_are_refused_before_training(tmp_path):
    from demonstrations import record

    with pytest.raises(ValueError, match="expected an embodiment whose actions change the tool's position in metres"):
        ImitationLearner(tiny_training(), talking_network(), [record(tmp_path / "store", range(2), 2)])


def test_training_saves_a_policy_that_speaks(tmp_path, store):
    config = tiny_training(steps=4, save_every=2, log_every=2, batch_size=4, stages=(Stage(),), validation_share=0.3)
    train(tmp_path / "run", config, talking_network(), [store], show_progress=False)
    policy = VLAPolicy.load(tmp_path / "run")
    found = evaluate(MetricPointMass(3, max_episode_steps=6), policy, range(3), show_progress=False).agreement
    assert found is not None and found.decisions >= 3
    losses = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert any({"nll", "accuracy", "l1", "l1_silent"} <= set(line) for line in losses)


@pytest.mark.slow
def test_what_a_trained_network_says_agrees_with_what_it_does(tmp_path):
    """Far more than if its sentences were dealt at random."""
    path = record_metric(tmp_path / "store", range(60))
    config = tiny_training(steps=400, batch_size=32, lr=5e-3, save_every=400, log_every=100, stages=(Stage(),))
    train(tmp_path / "run", config, talking_network(width=64), [path], show_progress=False)
    env = MetricPointMass(20, stream="evaluate")
    found = evaluate(env, VLAPolicy.load(tmp_path / "run"), range(20), show_progress=False).agreement
    assert found.chunk.lo > found.chunk_by_chance + 0.1 and found.deed.lo > found.deed_by_chance
