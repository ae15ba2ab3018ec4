"""The methods of the row that changes one part of the default policy at a time."""

from dataclasses import replace

from claim_methods import Method, Teacher, bridge, seeing, shipped

from configs.presets import (
    align_then_tune,
    from_an_eye,
    nano_bridge,
    nano_chat,
    nano_fast,
    nano_flow,
    nano_mlp,
    nano_tokens,
    nano_vl2v,
)
from policies.imitation.further import LAYERS, SURPRISE
from policies.imitation.stages import Stage
from vla.config import HeadConfig
from vla.heads.mapper import MapperConfig
from vla.heads.tokens import TokensConfig
from vla.objectives import LossWeights
from vla.objectives.embedding import CosineConfig


def _staged(*stages: Stage, teacher: Teacher | None = None, head: HeadConfig | None = None) -> Method:
    policy = shipped(nano_bridge())
    train = replace(policy.train, stages=stages)
    return Method(policy=replace(policy, head=head or policy.head, train=train), teacher=teacher)


def _with(objective: str, weight: float) -> Stage:
    return replace(from_an_eye()[0], weights=LossWeights(objectives={objective: weight}))


def _align_then_tune() -> tuple[Stage, Stage]:
    """VITA-VLA's stages on fewer steps, at the rates of a network that starts from an eye."""
    align, tune = align_then_tune()
    (act,) = from_an_eye()
    return replace(align, warmup_steps=act.warmup_steps), replace(act, share=tune.share)


def _near_sentences() -> Method:
    policy = shipped(nano_vl2v())
    teachers = replace(policy.train.teachers, cosine=CosineConfig(pictures=0.0))
    return Method(policy=replace(policy, train=replace(policy.train, teachers=teachers)), teacher="sentences")


PARTS = {
    "bridge": bridge(),
    "MLP": Method(policy=shipped(nano_mlp())),
    "flow": Method(policy=shipped(nano_flow())),
    "256 bins, one after the other": Method(policy=shipped(nano_tokens())),
    "256 bins, all at once": Method(policy=replace(shipped(nano_tokens()), head=TokensConfig(decoding="parallel"))),
    "FAST": Method(policy=shipped(nano_fast())),
    "words first": Method(policy=shipped(nano_chat())),
    "mapper": _staged(*from_an_eye(), head=MapperConfig()),
    "mapper, taught by bridge": _staged(*_align_then_tune(), head=MapperConfig(), teacher="first method"),
    "layers say bridge's pictures": _staged(_with(LAYERS, 0.5), teacher="first method"),
    "near to a sentence encoder": _near_sentences(),
    "actions weighed by surprise": _staged(_with(SURPRISE, 1.0)),
    "position prompt": seeing(position_prompt=True),
    "merged tokens": seeing(merged_tokens=4),
    "half of the keypoints": seeing(keypoints=16),
}
