"""Evaluation: episodes are the seeds' own, whatever the waves; language is swapped, judgement is not."""

import json

import numpy as np
import pytest
import torch
from demonstrations import tiny_policy
from point_mass import COLOURS, SPEED_M, PointMassEnv

from envs.specs import STATE_KEY, STREAMS, TASK_KEY, depth_key, extrinsics_key, image_key, segmentation_key
from policies.ablation import without_pictures
from policies.evaluation import evaluate
from policies.expert import ExpertPolicy
from policies.policy import ChunkPolicy


class Reader(ChunkPolicy):
    """Obeys the instruction it reads: finds the named colour in the picture, walks ``horizon`` steps towards it."""

    def __init__(self, embodiment, horizon=4, replan_interval=4):
        super().__init__(embodiment, horizon, replan_interval)
        self.seen = []

    def predict_chunk(self, observation):
        self.seen.append(list(observation[TASK_KEY]))
        targets = torch.stack(
            [self._find(i, t) for i, t in zip(observation[image_key("front")], observation[TASK_KEY], strict=True)]
        )
        to_go = targets - observation[STATE_KEY]
        action = (to_go / (self.horizon * SPEED_M)).clamp(-1, 1)
        return action[:, None].repeat(1, self.horizon, 1)

    def _find(self, image, text):
        colour = next(c for name, c in COLOURS.items() if name in text)
        rows, columns = (image == torch.tensor(colour, dtype=torch.uint8)).all(-1).nonzero(as_tuple=True)
        if not len(rows):  # it stands on it
            return torch.zeros(2)
        size = image.shape[0]
        return torch.stack([rows.float().mean(), columns.float().mean()]).add(0.5).div(size).mul(2).sub(1)


def run(num_envs, seeds, **options):
    env = PointMassEnv(num_envs, size_px=32)
    return evaluate(env, Reader(env.embodiment), seeds, show_progress=False, **options)


def test_episodes_are_those_of_the_environments_stream():
    records = {}
    for stream in STREAMS:
        env = PointMassEnv(4, stream=stream, size_px=32)
        result = evaluate(env, Reader(env.embodiment), range(8), show_progress=False)
        assert result.stream == result.to_dict()["stream"] == stream
        records[stream] = [(episode.seed, episode.steps, episode.goal) for episode in result.episodes]
    assert len({str(found) for found in records.values()}) == len(STREAMS)


def test_what_the_policy_cannot_take_in_is_shown_once_and_kept(tmp_path, caplog):
    class Deaf(Reader):
        def remarks(self, instructions):
            return [f"I do not know {text!r}" for text in dict.fromkeys(instructions) if "red" in text]

    env = PointMassEnv(4, size_px=32)
    result = evaluate(env, Deaf(env.embodiment), range(12), show_progress=False)
    said = {episode.instruction for episode in result.episodes if "red" in episode.instruction}
    assert said and sorted(result.remarks) == sorted(f"I do not know {text!r}" for text in said)
    assert len(caplog.records) == len(said)
    result.save(tmp_path / "result.json")
    assert json.loads((tmp_path / "result.json").read_text())["remarks"] == list(result.remarks)
    assert run(4, range(4)).to_dict()["remarks"] == []


def test_records_do_not_depend_on_the_number_of_worlds():
    seeds = list(range(100, 111))
    results = [run(n, seeds).episodes for n in (1, 4, 11)]
    assert results[0] == results[1] == results[2]
    assert [episode.seed for episode in results[0]] == seeds
    assert all(episode.success and episode.reward == 1 for episode in results[0])


def test_success_falls_when_instructions_are_shuffled():
    seeds = list(range(40))
    given, shuffled = run(8, seeds), run(8, seeds, instructions="shuffled")
    assert given.success.value == 1.0
    for episode in shuffled.episodes:
        assert episode.success == (episode.instruction == episode.goal)
    assert sorted(e.instruction for e in shuffled.episodes) == sorted(e.goal for e in given.episodes)
    assert [e.goal for e in shuffled.episodes] == [e.goal for e in given.episodes]
    assert 0 < shuffled.success.value < 0.7


def test_the_policy_reads_the_swapped_text_at_every_decision():
    env = PointMassEnv(3, size_px=32)
    policy = Reader(env.embodiment)
    evaluate(env, policy, [0, 1, 2], instructions="shuffled", show_progress=False)
    goals = env.reset([0, 1, 2])[TASK_KEY]
    assert policy.seen[0] == [goals[1], goals[2], goals[0]]
    assert all(set(texts) <= set(policy.seen[0]) for texts in policy.seen)


@pytest.mark.parametrize("num_envs", [1, 2, 4, 9])
def test_shuffled_instructions_do_not_depend_on_the_number_of_worlds(num_envs):
    shuffled = run(num_envs, range(9), instructions="shuffled").episodes
    goals = [episode.goal for episode in run(9, range(9)).episodes]
    assert [episode.instruction for episode in shuffled] == [*goals[1:], goals[0]]
    assert shuffled == run(9, range(9), instructions="shuffled").episodes


class Polite(PointMassEnv):
    """Asks in other words."""

    @property
    def goals(self):
        return super()._instructions()

    def _instructions(self):
        return [f"please, {text}" for text in super()._instructions()]


def test_what_is_meant_is_kept_whatever_the_words():
    kept = []
    for made in (PointMassEnv, Polite):
        env = made(4, size_px=32)
        for kind in ("given", "shuffled"):
            result = evaluate(env, Reader(env.embodiment), range(6), instructions=kind, show_progress=False)
            kept.append([(each.instruction_means, each.goal_means) for each in result.episodes])
            assert all("please" in each.goal for each in result.episodes) == (made is Polite)
    goals = [goal for _, goal in kept[0]]
    assert kept[0] == kept[2] == [(goal, goal) for goal in goals]
    assert kept[1] == kept[3] == list(zip([*goals[1:], goals[0]], goals, strict=True))
    unread = evaluate(env, Guesser(env.embodiment), range(2), instructions="none", show_progress=False)
    assert [(each.instruction_means, each.goal_means) for each in unread.episodes] == [("", goal) for goal in goals[:2]]


def test_a_policy_that_obeys_comes_to_the_share_of_equal_goals():
    shuffled = run(8, range(40), instructions="shuffled")
    assert shuffled.success.value == shuffled.same_goal_share == shuffled.to_dict()["same_goal_share"]
    assert run(8, range(4)).same_goal_share == 1


def test_impossible_requests_are_refused():
    with pytest.raises(ValueError, match="at least two seeds, got one"):
        run(4, [8], instructions="shuffled")
    with pytest.raises(ValueError, match="at least one seed"):
        run(4, [])
    with pytest.raises(ValueError, match="'given', 'shuffled' or 'none'"):
        run(4, [1, 2], instructions="swapped")


def test_nobody_plans_for_worlds_that_have_finished_or_repeat_a_seed():
    env = PointMassEnv(4, size_px=32)
    policy = Reader(env.embodiment)
    result = evaluate(env, policy, range(6), show_progress=False)
    assert max(len(texts) for texts in policy.seen[-1:]) <= 2
    assert sum(len(texts) for texts in policy.seen) == sum(-(-episode.steps // 4) for episode in result.episodes)
    assert len(policy.seen) == len(result.latency_s)


def test_what_the_policy_remarks_and_what_ran_is_kept(caplog):
    class Remarking(Reader):
        def remarks(self, instructions):
            return [f"cannot read {text!r}" for text in instructions if "red" in text]

    env = PointMassEnv(2, size_px=32)
    options = {"perturbation": "colosseum-14:light", "show_progress": False}
    result = evaluate(env, Remarking(env.embodiment), range(8), **options)
    assert result.remarks == ("cannot read 'go to the red dot'",) and len(caplog.messages) == 1
    assert result.to_dict()["remarks"] == ["cannot read 'go to the red dot'"]
    assert result.to_dict()["perturbation"] == "colosseum-14:light"


class Wordy(PointMassEnv):
    """Says the same in sentences of very different lengths, and keeps the actions."""

    def __init__(self, num_envs):
        super().__init__(num_envs, size_px=32, max_episode_steps=12)
        self.actions = {}

    def reset(self, seeds, mask=None):
        self.seeds = list(seeds)
        return super().reset(seeds, mask)

    def step_chunk(self, actions):
        for world, seed in enumerate(self.seeds):
            if not self.done[world]:
                self.actions.setdefault((seed, int(self.elapsed[world])), actions[world].tolist())
        return super().step_chunk(actions)

    def _instructions(self):
        colours = zip(self.goal.tolist(), self.dots[:, 0, 0].tolist(), strict=True)
        return [("red", "to the blue dot")[goal] + " over there, please" * (x > 0) for goal, x in colours]


def test_a_networks_actions_are_the_same_to_the_last_bit_for_every_number_of_worlds():
    played = []
    for num_envs in (1, 3, 8):
        env = Wordy(num_envs)
        played.append((evaluate(env, tiny_policy(), range(12), show_progress=False).episodes, env.actions))
    assert len({len(text.split()) for text in (episode.instruction for episode in played[0][0])}) > 2
    assert played[0] == played[1] == played[2]


class Guesser(Reader):
    """Goes to the first dot that it sees where it is told of none, and keeps how bright the pictures were."""

    def __init__(self, embodiment):
        super().__init__(embodiment)
        self.brightest = 0

    def _find(self, image, text):
        self.brightest = max(self.brightest, int(image.max()))
        return super()._find(image, text or "red")


def test_without_language_the_policy_reads_nothing_and_is_judged_all_the_same():
    env = PointMassEnv(4, size_px=32)
    policy = Guesser(env.embodiment)
    result = evaluate(env, policy, range(20), instructions="none", show_progress=False)
    assert {text for texts in policy.seen for text in texts} == {""} and policy.brightest > 0
    assert {episode.instruction for episode in result.episodes} == {""} and result.same_goal_share == 0
    assert [episode.success for episode in result.episodes] == ["red" in episode.goal for episode in result.episodes]
    assert result.to_dict()["without"] == ["language"] and result.instructions == "none"


def test_without_pictures_the_policy_sees_black_and_the_film_what_there_was():
    env = PointMassEnv(4, size_px=32, max_episode_steps=8)
    policy = Guesser(env.embodiment)
    result = evaluate(env, policy, range(8), pictures=False, record_videos=1, show_progress=False)
    assert policy.brightest == 0 and result.success.value < 1 and result.to_dict()["without"] == ["pictures"]
    assert result.videos[0].frames[0].max() > 0


def test_pictures_that_show_nothing_are_black_far_away_and_of_no_geom():
    shown = {
        image_key("a"): torch.full((1, 2, 2, 3), 9, dtype=torch.uint8),
        depth_key("a"): torch.ones(1, 2, 2),
        segmentation_key("a"): torch.ones(1, 2, 2, dtype=torch.int32),
        extrinsics_key("a"): torch.eye(4)[None],
        TASK_KEY: ["go"],
    }
    dark = without_pictures(shown)
    assert [float(dark[key("a")].unique()) for key in (image_key, depth_key, segmentation_key)] == [0, 0, -1]
    assert dark[image_key("a")].dtype == torch.uint8 and dark[TASK_KEY] == ["go"]
    assert torch.equal(dark[extrinsics_key("a")], shown[extrinsics_key("a")])


@pytest.mark.parametrize("instructions", ["given", "shuffled"])
def test_finished_episodes_are_not_run_again_and_change_nothing(instructions):
    kept, options = [], {"instructions": instructions, "show_progress": False}
    env = PointMassEnv(4, size_px=32)
    whole = evaluate(env, Reader(env.embodiment), range(9), keep=kept.append, **options)
    assert sorted((each.result for each in kept), key=lambda each: each.seed) == list(whole.episodes)
    assert all(0 < each.wall_s < whole.wall_s for each in kept)
    finished = {each.result.seed: each for each in kept if each.result.seed in (0, 3, 4, 8)}
    policy, rest = Reader(env.embodiment), []
    again = evaluate(PointMassEnv(2, size_px=32), policy, range(9), finished=finished, keep=rest.append, **options)
    assert again.episodes == whole.episodes and sorted(each.result.seed for each in rest) == [1, 2, 5, 6, 7]
    assert len(policy.seen[0]) == 2 and len(again.latency_s) == len(policy.seen)
    nothing = evaluate(env, policy, range(9), finished={each.result.seed: each for each in kept}, **options)
    assert nothing.episodes == whole.episodes and nothing.to_dict()["chunk_latency_ms"]["p95"] is None


def test_the_expert_solves_all_and_steps_match_single_stepping():
    env = PointMassEnv(4)
    result = evaluate(env, ExpertPolicy(env), range(6), show_progress=False)
    assert result.success.value == 1 and result.replan_interval == result.horizon == 1
    for episode in result.episodes:
        single = PointMassEnv(1)
        single.reset([episode.seed])
        steps = 1
        while not bool(single.step(single.expert_action()).terminated):
            steps += 1
        assert episode.steps == steps


def test_an_idle_policy_fails_within_the_step_limit():
    class Idle(Reader):
        def predict_chunk(self, observation):
            return torch.zeros(len(observation[STATE_KEY]), self.horizon, 2)

    env = PointMassEnv(2, max_episode_steps=10)
    result = evaluate(env, Idle(env.embodiment), [0, 1, 2], show_progress=False)
    assert [episode.steps for episode in result.episodes] == [10, 10, 10]
    assert not any(result.outcomes) and len(result.latency_s) == 2 * 3


def test_videos_show_the_first_episodes_from_start_to_end():
    result = run(2, [5, 6, 7], record_videos=3)
    assert [video.episode.seed for video in result.videos] == [5, 6, 7]
    start = PointMassEnv(1, size_px=32).reset([7])[image_key("front")][0].numpy()
    assert np.array_equal(result.videos[2].frames[0], start)
    for video in result.videos:
        assert video.frames.dtype == np.uint8
        assert len(video.frames) == 1 + -(-video.episode.steps // 4)
    with pytest.raises(KeyError, match="front"):
        run(2, [5, 6], record_videos=1, camera="rear")


def test_the_json_holds_summary_and_records(tmp_path):
    result = run(3, range(6))
    result.save(tmp_path / "deep" / "result.json")
    data = json.loads((tmp_path / "deep" / "result.json").read_text())
    assert data["success"]["value"] == 1.0 and data["success"]["lo"] == pytest.approx(0.6097, abs=1e-4)
    assert data["stream"] == "demonstrate" and data["records"][3]["seed"] == 3 and data["chunk_latency_ms"]["p95"] > 0
    assert (data["horizon"], data["replan_interval"], data["num_envs"]) == (4, 4, 3)


def test_a_policy_of_another_robot_is_refused():
    from dataclasses import replace

    env = PointMassEnv(2)
    other = replace(env.embodiment, name="arm", action=env.embodiment.action * 3)
    with pytest.raises(ValueError, match="the policy is for arm"):
        evaluate(env, Reader(other), [0, 1], show_progress=False)
    turned = replace(
        env.embodiment, action=tuple(replace(dim, name=f"turn_{dim.name}") for dim in env.embodiment.action)
    )
    with pytest.raises(ValueError, match=r"action turn_dx, turn_dy\); the environment is .* action dx, dy"):
        evaluate(env, Reader(turned), [0, 1], show_progress=False)
