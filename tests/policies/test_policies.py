"""The policy contract for every kind of policy, and what each has of its own."""

import json
import math

import numpy as np
import pytest
import torch
from demonstrations import tiny_policy
from PIL import Image
from point_mass import PointMassEnv, point_mass_embodiment
from policy_contract import PolicyContract

from envs.specs import STATE_KEY, TASK_KEY, image_key
from policies.blocks import growing_blocks
from policies.ensemble import TemporalEnsemble
from policies.execution import Execution
from policies.expert import ExpertPolicy
from policies.network_input import InstructionTokens, network_images
from policies.policy import ChunkPolicy, Plan, Policy, seen_by
from policies.random_policy import RandomPolicy
from policies.remote import RemotePolicy
from policies.serving.client import ClientConfig, PolicyClient
from policies.serving.config import ServeConfig
from policies.serving.server import PolicyServer, running
from policies.training.checkpoint import TrainingState, save_checkpoint
from policies.vla_policy import VLAPolicy
from vla.checkpoint import CheckpointError


class TestVLAPolicy(PolicyContract):
    @pytest.fixture
    def make_policy(self):
        return lambda env: tiny_policy()


class TestExpertPolicy(PolicyContract):
    @pytest.fixture
    def make_policy(self):
        return ExpertPolicy


class TestRandomPolicy(PolicyContract):
    @pytest.fixture
    def make_policy(self):
        return lambda env: RandomPolicy(env.embodiment)

    def test_actions_are_uniform_within_the_bounds_and_seeds_draw_others(self):
        embodiment = point_mass_embodiment()
        observation = {STATE_KEY: torch.arange(6000.0).reshape(3000, 2)}
        actions = RandomPolicy(embodiment).predict_chunk(observation).flatten(0, 1)
        low, high = torch.tensor(embodiment.action_low), torch.tensor(embodiment.action_high)
        share = (actions - low) / (high - low)
        assert torch.allclose(share.mean(0), torch.tensor(0.5), atol=0.01)
        assert torch.allclose(share.std(0), torch.tensor(1 / math.sqrt(12)), atol=0.01)
        assert len(actions.unique(dim=0)) == len(actions)
        assert not torch.equal(RandomPolicy(embodiment, seed=1).predict_chunk(observation).flatten(0, 1), actions)


class TestTemporalEnsemble(PolicyContract):
    @pytest.fixture
    def make_policy(self):
        return lambda env: TemporalEnsemble(tiny_policy(), decay=0.1)


class TestRemotePolicy(PolicyContract):
    @pytest.fixture
    def make_policy(self, monkeypatch):
        monkeypatch.delenv("VLA_SERVE_TOKEN", raising=False)
        opened = []
        with running(PolicyServer(tiny_policy(), ServeConfig(port=0))) as port:

            def connect(env):
                opened.append(
                    RemotePolicy([PolicyClient(ClientConfig(url=f"ws://127.0.0.1:{port}")) for _ in range(2)])
                )
                return opened[-1]

            yield connect
            for policy in opened:
                policy.close()


class RandomChunks(ChunkPolicy):
    """Chunks that were drawn beforehand, one per call."""

    def __init__(self, chunks):
        super().__init__(point_mass_embodiment(), horizon=chunks.shape[2], replan_interval=1)
        self.chunks, self.calls = chunks, 0

    def predict_chunk(self, observation):
        self.calls += 1
        return self.chunks[self.calls - 1]


@pytest.mark.parametrize("decay", [0.0, 0.25])
def test_the_ensemble_agrees_with_act_spelled_out(decay):
    steps, worlds, horizon = 12, 3, 5
    chunks = torch.randn(steps, worlds, horizon, 2)
    execution = Execution(TemporalEnsemble(RandomChunks(chunks), decay), worlds)
    for step in range(steps):
        action = execution.act({STATE_KEY: torch.zeros(worlds, 2)})
        for world in range(worlds):
            told = [chunks[s, world, step - s] for s in range(max(0, step - horizon + 1), step + 1)]
            weights = [math.exp(-decay * i) for i in range(len(told))]
            expected = sum(w * a for w, a in zip(weights, told, strict=True)) / sum(weights)
            torch.testing.assert_close(action[world], expected)


def test_an_expert_knows_its_own_worlds_only():
    with pytest.raises(ValueError, match="2 worlds, got 3"):
        ExpertPolicy(PointMassEnv(2)).start(3)
    with pytest.raises(ValueError, match="2 worlds, got 3 observations"):
        ExpertPolicy(PointMassEnv(2)).plan(None, PointMassEnv(3).reset([1, 2, 3]), torch.ones(3, dtype=torch.bool))


class Paces(Policy[int]):
    """Says in every action how often it has looked; looks again after 1, 2, 3 … steps, world by world."""

    def __init__(self, worlds):
        super().__init__(point_mass_embodiment(), horizon=worlds, replan_interval=1)
        self.asked = []

    def start(self, n):
        return 0

    def plan(self, state, observation, mask):
        self.asked.append(mask.tolist())
        n = len(mask)
        actions = (state + 1) * torch.ones(n, self.horizon, 2)
        return state + 1, Plan(actions * mask[:, None, None], torch.arange(1, n + 1) * mask)


def test_worlds_look_at_moments_of_their_own():
    policy, observation = Paces(3), {STATE_KEY: torch.zeros(3, 2)}
    execution = Execution(policy, 3)
    taken = torch.stack([execution.act(observation)[:, 0] for _ in range(6)], 1)
    assert taken.tolist() == [[1, 2, 3, 4, 5, 6], [1, 1, 3, 3, 5, 5], [1, 1, 1, 4, 4, 4]]
    assert policy.asked[1:3] == [[True, False, False], [True, True, False]]


def test_chunks_end_where_a_running_world_is_due():
    policy, observation = Paces(3), {STATE_KEY: torch.zeros(3, 2)}
    execution, running = Execution(policy, 3), torch.tensor([False, True, True])
    assert execution.plan(observation, running) == 2 and policy.asked == [[False, True, True]]
    chunk = execution.advance(running)
    assert chunk.shape == (3, 2, 2) and chunk[:, 0, 0].tolist() == [0, 1, 1]
    assert execution.due(running).tolist() == [False, True, False]
    with pytest.raises(RuntimeError, match="not used up"):
        execution.advance(running)


def test_an_ensemble_is_served_to_two_connections_without_mixing(monkeypatch):
    monkeypatch.delenv("VLA_SERVE_TOKEN", raising=False)
    steps = [[PointMassEnv(1).reset([seed]) for seed in range(first, first + 4)] for first in (0, 20)]

    def served(url):
        return RemotePolicy([PolicyClient(ClientConfig(url=url))])

    with running(PolicyServer(TemporalEnsemble(tiny_policy(), decay=0.1), ServeConfig(port=0))) as port:
        remotes = [served(f"ws://127.0.0.1:{port}") for _ in steps]
        assert all(remote.remembers for remote in remotes)
        for _ in range(2):  # the second one on the same connections, told by the reset flag
            theirs = [Execution(remote, 1) for remote in remotes]
            ours = [Execution(TemporalEnsemble(tiny_policy(), decay=0.1), 1) for _ in steps]
            for seen in zip(*steps, strict=True):
                for there, here, observation in zip(theirs, ours, seen, strict=True):
                    torch.testing.assert_close(there.act(observation), here.act(observation))
        with pytest.raises(ValueError, match="each of 2 worlds needs one of its own; there are 1"):
            remotes[0].start(2)
        stale = remotes[0].start(1)
        remotes[0].start(1)
        with pytest.raises(ValueError, match="other episodes have begun"):
            remotes[0].plan(stale, steps[0][0], torch.ones(1, dtype=torch.bool))
        for remote in remotes:
            remote.close()


def test_a_policy_comes_back_from_its_directory(tmp_path):
    policy, observation = tiny_policy(), PointMassEnv(2).reset([1, 2])
    state = TrainingState(step=5, tensors={}, progress={})
    save_checkpoint(tmp_path / "checkpoints", state, "policy", policy.save, keep_last=1)
    for place in ("", "checkpoints", "checkpoints/000005", "checkpoints/last", "checkpoints/last/policy"):
        loaded = VLAPolicy.load(tmp_path / place)
        assert torch.equal(loaded.predict_chunk(observation), policy.predict_chunk(observation))
    assert (loaded.replan_interval, loaded.embodiment) == (2, policy.embodiment)
    assert VLAPolicy.load(tmp_path, replan_interval=3).replan_interval == 3


def test_actions_are_unnormalised_and_clipped(monkeypatch):
    policy, observation = tiny_policy(), PointMassEnv(2).reset([1, 2])
    stats = policy.normalization.action.stats
    ends = torch.tensor([[[-1.0, -1.0], [1.0, 1.0], [9.0, -9.0], [0.0, 0.0]]]).repeat(2, 1, 1)
    monkeypatch.setattr(policy.vla, "act", lambda seen: ends)
    middle = [(lo + hi) / 2 for lo, hi in zip(stats.min, stats.max, strict=True)]
    expected = torch.tensor([stats.min, stats.max, (1.0, -1.0), middle])
    torch.testing.assert_close(policy.predict_chunk(observation)[1], expected)


def test_the_network_sees_normalised_state_and_scaled_images(monkeypatch):
    policy, observation = tiny_policy(), PointMassEnv(2).reset([1, 2])
    seen = []
    monkeypatch.setattr(policy.vla, "act", lambda given: seen.append(given) or torch.zeros(2, 4, 2))
    policy.predict_chunk(observation)
    stats = policy.normalization.state.stats
    expected = (observation[STATE_KEY] - torch.tensor(stats.mean)) / torch.tensor(stats.std)
    torch.testing.assert_close(seen[0].state[:2], expected)
    assert torch.equal(seen[0].images[:2, 0, 0], observation[image_key("front")].permute(0, 3, 1, 2) / 255)


@pytest.mark.parametrize("size_px", [(16, 16), (24, 40), (64, 96)])
def test_images_are_resized_as_pillow_does(size_px):
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((48, 36), Image.Resampling.BICUBIC)
    ours = network_images(torch.from_numpy(np.array(coarse))[None, None], size_px)[0, 0].permute(1, 2, 0)
    theirs = np.asarray(coarse.resize(size_px[::-1], Image.Resampling.BILINEAR), dtype=np.float32) / 255
    assert np.abs(ours.numpy() - theirs).max() < 1.5 / 255


def test_a_policy_takes_images_of_another_size():
    small, large = PointMassEnv(2).reset([1, 2]), PointMassEnv(2, size_px=48).reset([1, 2])
    assert tiny_policy().predict_chunk(large).shape == tiny_policy().predict_chunk(small).shape


def test_instructions_are_tokenised_once():
    policy, calls = tiny_policy(), []
    tokenize = policy.vla.backbone.tokenize
    tokens = InstructionTokens(policy.vla.backbone)
    policy.vla.backbone.tokenize = lambda texts: calls.append(texts) or tokenize(texts)
    for texts in (["a", "b"], ["a", "b"], ["b", "a"], ["a", "b"]):
        ids, mask = tokens(texts, "cpu")
        (plain, real), n = tokenize(texts), policy.vla.backbone.text_window
        assert ids.shape == mask.shape == (2, n) and not mask[:, real.shape[1] :].any()
        assert torch.equal(ids[:, : plain.shape[1]], plain) and torch.equal(mask[:, : real.shape[1]], real)
    assert calls == [("a", "b")]
    tokens(["b", "c"], "cpu")
    assert calls[1:] == [("c",)]


def test_a_neighbours_sentence_changes_no_bit_of_a_worlds_actions():
    policy, observation = tiny_policy(), PointMassEnv(2).reset([1, 2])
    with torch.no_grad():
        for parameter in policy.vla.head.parameters():
            parameter *= 0.3  # so that no bound of the actions hides what words change
    chunks = [
        policy.predict_chunk({**observation, TASK_KEY: ["red", other]})
        for other in ("red", "blue", "go to the blue dot at once", "blue " * 500)
    ]
    assert all(torch.equal(chunk[0], chunks[0][0]) for chunk in chunks)
    assert not torch.equal(chunks[1][1], chunks[2][1])


def test_policies_that_read_remark_on_what_they_cannot_take_in():
    policy = tiny_policy()
    assert policy.vla.backbone.text_window == 10
    long = "slide out the drawer; then stow the purple cube in it"
    assert policy.remarks(["red", "blue"]) == []
    cut, blank = policy.remarks(["red", long, long]), policy.remarks(["red", " \n"])
    assert len(cut) == len(blank) == 1
    assert repr(long) in cut[0] and "10 tokens" in cut[0] and cut[0].endswith("see 'cube in it'")
    assert "empty" in blank[0]
    assert TemporalEnsemble(policy).remarks([long]) == cut
    assert Policy.remarks(policy, [long, ""]) == []
    assert len(policy.remarks(["long " * 10_000])[0]) < 1000


def test_a_servers_remarks_come_back_through_the_client(caplog):
    long = "slide out the drawer; then stow the purple cube in it"
    observation = PointMassEnv(3).reset([1, 2, 3])
    with (
        running(PolicyServer(tiny_policy(), ServeConfig(port=0))) as port,
        PolicyClient(ClientConfig(url=f"ws://127.0.0.1:{port}")) as client,
    ):
        remote = RemotePolicy([client])
        state, everyone = remote.start(3), torch.ones(3, dtype=torch.bool)
        for _ in range(2):
            state, _ = remote.plan(state, {**observation, TASK_KEY: ["red", long, "red"]}, everyone)
        assert remote.remarks(["red", long]) == tiny_policy().remarks([long])
        assert remote.remarks(["red"]) == []
    for name in ("policies.serving.session", "policies.serving.client"):
        assert len([record for record in caplog.records if record.name == name]) == 1


def test_a_server_runs_the_network_on_no_more_than_it_was_asked(tmp_path):
    tiny_policy().save(tmp_path)
    for blocks, expected in (((1,), [1, 1]), ((16,), [16]), ((1, 2, 4), [2])):
        policy, rows = VLAPolicy.load(tmp_path, blocks=blocks), []
        policy.vla.backbone.register_forward_pre_hook(lambda _, args, rows=rows: rows.append(len(args[0].state)))
        policy.predict_chunk(PointMassEnv(2).reset([1, 2]))
        assert rows == expected


def test_blocks_that_grow_hold_what_there_is_and_let_nobody_see_what_the_others_ask(tmp_path):
    assert [growing_blocks(largest) for largest in (1, 2, 3, 8, 12)] == [
        (1,),
        (1, 2),
        (1, 2, 3),
        (1, 2, 4, 8),
        (1, 2, 4, 8, 12),
    ]
    tiny_policy().save(tmp_path)
    policy, rows = VLAPolicy.load(tmp_path, blocks=growing_blocks(4)), []
    policy.vla.backbone.register_forward_pre_hook(lambda _, args: rows.append(len(args[0].state)))
    seven, others = PointMassEnv(7).reset(range(7)), PointMassEnv(7).reset([*range(4), 21, 22, 6])
    together = policy.predict_chunk(seven)
    assert rows == [4, 4] and policy.rows_at_once == 4
    assert torch.equal(policy.predict_chunk(others)[[0, 1, 2, 3, 6]], together[[0, 1, 2, 3, 6]])
    for world in range(7):
        alone = policy.predict_chunk(seen_by(seven, torch.arange(7) == world))
        torch.testing.assert_close(alone[0], together[world], rtol=1e-4, atol=1e-5)
    assert set(rows[4:]) == {1}


def test_a_state_far_from_all_data_reaches_the_network_bounded(tmp_path):
    observation = PointMassEnv(2).reset([1, 2])
    tiny_policy().save(tmp_path)
    for policy in (tiny_policy(), VLAPolicy.load(tmp_path)):
        far, farther = (
            policy.predict_chunk({**observation, STATE_KEY: torch.tensor([[x, -x], [0.0, x]])}) for x in (60.0, 1e6)
        )
        assert torch.equal(far, farther)


BAD_OBSERVATIONS = {
    r"camera 'front'.*got the images \['observation.images.rear'\]": lambda o: {
        **{k: v for k, v in o.items() if k != image_key("front")},
        image_key("rear"): o[image_key("front")],
    },
    r"front: expected uint8 of shape \(2, h, w, 3\), got float32": lambda o: {
        **o,
        image_key("front"): o[image_key("front")].float(),
    },
    r"got uint8 array of shape \(2, 3, 16, 16\)": lambda o: {
        **o,
        image_key("front"): o[image_key("front")].permute(0, 3, 1, 2),
    },
    r"state: expected a tensor of shape \('n', 2\)": lambda o: {**o, STATE_KEY: torch.zeros(2, 7)},
    r"got a NoneType": lambda o: {k: v for k, v in o.items() if k != STATE_KEY},
    r"not finite in \['y'\]": lambda o: {**o, STATE_KEY: torch.tensor([[0.0, float("nan")], [0.0, 0.0]])},
    r"task: expected a list of 2 instructions": lambda o: {**o, TASK_KEY: "go"},
}


@pytest.mark.parametrize("message", BAD_OBSERVATIONS)
def test_bad_observations_are_refused(message):
    with pytest.raises(ValueError, match=message):
        tiny_policy().predict_chunk(BAD_OBSERVATIONS[message](PointMassEnv(2).reset([1, 2])))


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


def relabel(path, version):
    path.write_text(json.dumps({**json.loads(path.read_text()), "format_version": version}))


DAMAGES = {
    "no policy.json": lambda folder: (folder / "policy.json").unlink(),
    "policy.json is damaged": lambda folder: cut(folder / "policy.json"),
    "has format 99": lambda folder: relabel(folder / "policy.json", 99),
    "has format 1, this version reads 2 alone; train the policy again": lambda f: relabel(f / "policy.json", 1),
    "model.safetensors": lambda folder: cut(folder / "model.safetensors"),
    "config.json": lambda folder: (folder / "config.json").unlink(),
}


@pytest.mark.parametrize("message", DAMAGES)
def test_damaged_policies_are_refused(tmp_path, message):
    tiny_policy().save(tmp_path)
    DAMAGES[message](tmp_path)
    with pytest.raises(CheckpointError, match=message):
        VLAPolicy.load(tmp_path)


def test_a_network_for_another_robot_is_refused():
    policy = tiny_policy()
    with pytest.raises(ValueError, match=r"no cameras \['front'\]"):
        VLAPolicy(policy.vla, policy.normalization, point_mass_embodiment(cameras=("wrist",)))
    with pytest.raises(ValueError, match="replan_interval must lie in 1…4"):
        VLAPolicy(policy.vla, policy.normalization, policy.embodiment, 5)
