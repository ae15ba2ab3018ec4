"""Every backbone with every head, once through all that a policy does: learn, be saved, loaded and served, and act.

The rows of the diagonal, which have every backbone and every head, run always; all other pairs are slow.
"""

from importlib.util import find_spec

import pytest
import torch
from demonstrations import FAST, TINY_HEADS, record, tiny_network, tiny_training
from point_mass import PointMassEnv
from sentence_encoders import make_encoder
from tiny_checkpoints import FAMILIES, checkpoints, tiny_pair

from policies.imitation.learner import ImitationLearner
from policies.imitation.stages import Stage
from policies.remote import RemotePolicy
from policies.serving.client import ClientConfig, PolicyClient
from policies.serving.config import ServeConfig
from policies.serving.server import PolicyServer, running
from policies.vla_policy import VLAPolicy
from vla.backbones.nano_text import NanoTextConfig
from vla.backbones.vlm.config import VLMConfig
from vla.config import VLAConfig
from vla.heads.tokens import TokensConfig

HEADS = {name: head for name, head in TINY_HEADS.items() if name != "chat"}  # chat also learns from what is said
HEADS |= {"parallel": TokensConfig(bins=16, decoding="parallel"), "fast": FAST}
BACKBONES = ["nano", "nano-text", "fused", *FAMILIES]
PAIRS = [
    pytest.param(backbone, head, marks=() if i % len(HEADS) == j else pytest.mark.slow)
    for i, backbone in enumerate(BACKBONES)
    for j, head in enumerate(HEADS)
]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return record(tmp_path_factory.mktemp("data") / "store")


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """The config of a backbone with a head, over checkpoints that are made once each."""
    of_family, made = checkpoints(tmp_path_factory), {}

    def folder(name, make):
        if name not in made:
            made[name] = make(tmp_path_factory.mktemp(name))
        return str(made[name])

    def of(name, head):
        if name == "nano":
            return tiny_network(head=HEADS[head])
        if name == "nano-text":
            plain = tiny_network(head=HEADS[head])
            return plain_with(plain, NanoTextConfig(text=folder(name, make_encoder), **vars(plain.backbone)))
        checkpoint = folder(name, tiny_pair) if name == "fused" else str(of_family(name))
        backbone = VLMConfig(
            checkpoint=checkpoint,
            tuning="lora" if find_spec("peft") else "frozen",
            n_queries=4,
            lora_rank=4,
            max_text_tokens=64,
            side_px=64 if name == "florence2" else None,
            prompt="{instruction}",
            gradient_checkpointing=True,
        )
        return plain_with(tiny_network(head=HEADS[head]), backbone, waypoint_dims=())

    return of


def plain_with(config, backbone, **fields):
    kept = {name: value for name, value in vars(config).items() if name not in ("backbone", *fields)}
    return VLAConfig(backbone=backbone, **kept, **fields)


@pytest.mark.parametrize(("backbone", "head"), PAIRS)
def test_a_policy_learns_is_kept_and_served(tmp_path, store, network, backbone, head):
    config = network(backbone, head)
    learner = ImitationLearner(tiny_training(steps=2, stages=(Stage(),), batch_size=4), config, [store])
    before = {name: weight.detach().clone() for name, weight in learner.parameters.items()}
    for step in range(2):
        assert torch.isfinite(torch.tensor(list(learner.step(step).values()))).all()
    moved = {name for name, weight in learner.parameters.items() if not weight.equal(before[name])}
    assert any(name.startswith("head.") for name in moved)
    lora = {name for name in before if ".lora_" in name}
    assert lora & moved or (not lora and any(name.startswith("backbone.") for name in moved))

    observation = PointMassEnv(1).reset([1])
    with learner._averaged() as policy:
        expected = policy.predict_chunk(observation)
        policy.save(tmp_path)
    loaded = VLAPolicy.load(tmp_path)
    assert expected.isfinite().all() and loaded.predict_chunk(observation).equal(expected)

    server = PolicyServer(loaded, ServeConfig(port=0))
    with running(server), PolicyClient(ClientConfig(url=f"ws://127.0.0.1:{server.port}")) as client:
        remote = RemotePolicy([client])
        _, plan = remote.plan(remote.start(1), observation, torch.ones(1, dtype=torch.bool))
    torch.testing.assert_close(plan.actions, expected, atol=1e-6, rtol=1e-6)


def test_every_backbone_and_every_head_is_on_the_diagonal():
    always = [pair.values for pair in PAIRS if not pair.marks]
    assert {backbone for backbone, _ in always} == set(BACKBONES) and {head for _, head in always} == set(HEADS)
