"""What the rows of the claims are made of: demonstrations, pre-trained bases, and methods that learn from them.

Like the code that measures, it counts for the ledger's digest; what is said of rows (``claim_rows.py``) does not. A
method that becomes another one gets another name, so that no table counts the two together.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

from configs.environments import ARM_START_RAD
from configs.presets import look_then_move, nano_bridge, nano_heatmap, nano_mlp, nano_tabletop
from configs.pretraining import Config as Pretraining
from configs.pretraining import nano
from configs.rl import Config as Improving
from configs.rl import nano_filtered, nano_grpo, nano_ppo, nano_ppo_dense, nano_vldac, robofume
from configs.training import Config as Training
from envs.suites import SUITES, task_names
from policies.imitation.lifelong.config import LifelongConfig
from vla.heads.bridge import BridgeConfig
from vla.heads.heatmap_config import HeatmapConfig


@dataclass(frozen=True, kw_only=True)
class Part:
    """A share of a recording's episodes, in usual worlds or under a perturbation (PRESET:AXIS).

    Seeds count from ``first_seed`` on: those of one seed show the same table, whatever perturbs it.
    """

    share: int = 1
    perturbation: str | None = None
    first_seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Recording:
    """Demonstrations that several methods may share, recorded as ``vla collect`` does.

    The ``parts`` divide a task's episodes in proportion to their shares. A ``palette`` is the colours that things come
    in, by default those of the tasks. With ``depth`` cameras also give depth images.
    """

    name: str
    tasks: tuple[str, ...]
    arm_start_rad: float = ARM_START_RAD
    palette: tuple[str, ...] = ()
    depth: bool = False
    parts: tuple[Part, ...] = (Part(),)

    def divided(self, count: int) -> list[tuple[Part, range]]:
        """The seeds of each part, of ``count`` in all; parts that come to none are left out.

        ``ValueError`` where two parts would have a seed in common.
        """
        whole, begun, found = sum(part.share for part in self.parts), 0, list[tuple[Part, range]]()
        for part in self.parts:
            some = round(count * (begun + part.share) / whole) - round(count * begun / whole)
            begun += part.share
            found += [(part, range(part.first_seed, part.first_seed + some))] if some else []
        if len({seed for _, seeds in found for seed in seeds}) < count:
            raise ValueError(f"two parts of {self.name} have seeds in common, at {count} demonstrations per task")
        return found


@dataclass(frozen=True, kw_only=True)
class Base:
    """A pre-training, whose backbone methods start from. A sentence encoder teaches where its weight is above 0."""

    name: str
    pretraining: Pretraining

    @property
    def taught(self) -> bool:
        return self.pretraining.train.weights.teacher > 0


Teacher = Literal["first method", "sentences"]


@dataclass(frozen=True, kw_only=True)
class Method:
    """A policy's training, from a ``base`` if there is one, on the row's demonstrations unless on a ``recording``.

    With ``improving`` the policy is not trained for itself: it is that of the row's first method, improved by reward.
    With a ``teacher`` it also learns from the policy of the row's first method, or from a sentence encoder.
    ``longer``: for how many times the budget's steps it is trained.
    """

    policy: Training
    base: Base | None = None
    recording: Recording | None = None
    improving: Improving | None = None
    teacher: Teacher | None = None
    longer: int = 1

    @property
    def follows(self) -> bool:
        """Whether the first method's policy has to be there before."""
        return self.improving is not None or self.teacher == "first method"

    @property
    def needs_sentences(self) -> bool:
        """Whether a sentence encoder teaches it, or what it starts from."""
        return self.teacher == "sentences" or (self.base is not None and self.base.taught)


BASE_STEPS = 2000
"""Of the bases that are compared with each other: a third of the shipped one's."""
_OBJECTIVES = {"telling": ("caption", "answer", "blind"), "matching": ("matching",), "a teacher": ("teacher",)}
"""What a pre-training can do without, and its weights; looking is always there."""


def pretrained(*without: str) -> Base:
    """The shipped eye's pre-training, but shorter and without some of ``_OBJECTIVES``."""
    preset = nano()
    weights = dict.fromkeys((weight for each in without for weight in _OBJECTIVES[each]), 0.0)
    train = replace(
        preset.train,
        steps=BASE_STEPS,
        questions_per_table=1,
        corpus=6000,
        weights=replace(preset.train.weights, **{"heatmap": 0.5, **weights}),
    )
    name = " and ".join(f"without {each}" for each in without) or "all objectives"
    if len(without) == len(_OBJECTIVES):
        name = "looking alone"
    return Base(name=name, pretraining=replace(preset, name=name.replace(" ", "-"), train=train))


def shipped(policy: Training) -> Training:
    """``policy`` from the shipped eye."""
    return replace(policy, backbone=replace(policy.backbone, weights="shipped"))


def scratch(policy: Training) -> Training:
    """``policy`` from nothing: it learns where motions go before it learns to act."""
    train = replace(policy.train, stages=look_then_move())
    return replace(policy, backbone=policy.backbone.fresh, train=train)


def after(base: Base) -> Method:
    """The default policy from ``base``."""
    policy = nano_bridge()
    return Method(policy=replace(policy, backbone=policy.backbone.fresh), base=base)


def _knowing(policy: Training) -> Training:
    """``policy``, which is told where its cameras stand."""
    return replace(policy, backbone=replace(policy.backbone, use_cameras=True))


def seeing(**fields: Any) -> Method:
    """The default policy from the shipped eye with these fields of its backbone."""
    policy = shipped(nano_bridge())
    return Method(policy=replace(policy, backbone=replace(policy.backbone, **fields)))


FROM_SHIPPED, FROM_SCRATCH = Method(policy=shipped(nano_bridge())), Method(policy=scratch(nano_bridge()))
FROM_SHIPPED_POLICY = Method(policy=nano_tabletop())

_BASES = (
    pretrained(),
    *(pretrained(each) for each in _OBJECTIVES),
    pretrained(*_OBJECTIVES),
)
PRETRAININGS = {
    **{base.name: after(base) for base in _BASES},
    "from scratch": FROM_SCRATCH,
    "shipped eye": FROM_SHIPPED,
}


def bridge(**conditions: str) -> Method:
    """The default policy from the shipped eye, with these fields of its head."""
    policy = shipped(nano_bridge())
    return Method(policy=replace(policy, head=BridgeConfig(**conditions)))  # pyright: ignore[reportArgumentType]


HEADS = {
    "bridge": bridge(),
    "MLP": Method(policy=shipped(nano_mlp())),
    "bridge, last layer only": bridge(layers="last"),
    "bridge, raw tokens only": bridge(conditions="raw"),
    "bridge, queries only": bridge(conditions="queries"),
}

DECISIONS = 102_400
"""That a policy makes as it learns from reward; where iterations are whole episodes, as many as its worlds could."""


def _improved(preset: Improving) -> Method:
    """The first method's policy after reinforcement learning, in two processes; every method acts for as long."""
    iterations = DECISIONS // (preset.rl.num_envs * preset.rl.decisions)
    config = replace(preset, tasks=USUAL_TASKS, rl=replace(preset.rl, iterations=iterations, processes=2))
    return Method(policy=FROM_SHIPPED.policy, improving=config)


USUAL_TASKS = ("reach", "pick", "place")
IMPROVEMENTS = {
    "imitation alone": FROM_SHIPPED,
    "PPO": _improved(nano_ppo()),
    "PPO, dense reward": _improved(nano_ppo_dense()),
    "GRPO": _improved(nano_grpo()),
    "VL-DAC": _improved(nano_vldac()),
    "imitation of own successes": _improved(nano_filtered()),
    "imitation for ten times as long": replace(FROM_SHIPPED, longer=10),
}
THREE_TASKS = Recording(name="reach-pick-place", tasks=USUAL_TASKS)
RANDOMISED_TOO = Recording(
    name="reach-pick-place-randomised",
    tasks=USUAL_TASKS,
    parts=(Part(share=4), Part(share=3, perturbation="randomised:all", first_seed=100_000)),
)
"""Of 350 demonstrations per task 200 in the usual worlds and 150 in randomised ones, as the quickstart had them."""
AS_IN_QUICKSTART = Recording(
    name="reach-pick-place-quickstart",
    tasks=USUAL_TASKS,
    parts=(Part(share=3), Part(share=2, perturbation="randomised:all", first_seed=100_000)),
)
"""Of 200 demonstrations per task 120 in the usual worlds and 80 in randomised ones."""
FORTY_TASKS = Recording(name="suites", tasks=task_names(list(SUITES)))
FIVE_THINGS = Recording(
    name="five-things",
    tasks=tuple(
        f"tabletop-object/{thing}" for thing in ("red-ball", "green-cylinder", "purple-post", "red-tile", "yellow-cube")
    ),
)
OTHER_THINGS = tuple(name for name in task_names(["tabletop-object"]) if name not in FIVE_THINGS.tasks)
SEEN_COLOURS = ("red", "green", "blue", "yellow")
UNSEEN_COLOURS = ("purple", "cyan", "grey", "brown")
FOUR_COLOURS = Recording(name="reach-pick-place-four-colours", tasks=USUAL_TASKS, palette=SEEN_COLOURS)

DRAWER_BOTH_WAYS = Recording(name="drawer-both-ways", tasks=("open-drawer", "close-drawer"))


def _without_resets(**fields: Any) -> Method:
    """The first method's policy after as many updates; ``fields`` are of the settings without resets."""
    config = robofume()
    assert config.robofume is not None
    return Method(policy=FROM_SHIPPED.policy, improving=replace(config, robofume=replace(config.robofume, **fields)))


WITHOUT_RESETS = {
    "imitation alone": FROM_SHIPPED,
    "Cal-QL, demonstrations alone": _without_resets(offline=robofume().rl.iterations),
    "Cal-QL, then without resets": _without_resets(),
    "without resets, the simulator's word": _without_resets(judge="simulator"),
    "reset after each attempt": _without_resets(resets="attempts"),
}
"""RoboFuME, what of it is there without acting, and what it is without a classifier's errors, or with resets."""

QUICKSTART = {"shipped eye, randomised demonstrations too": replace(FROM_SHIPPED, recording=RANDOMISED_TOO)}
QUICKSTARTS = {
    "shipped policy": replace(FROM_SHIPPED_POLICY, recording=AS_IN_QUICKSTART),
    "shipped eye, known cameras": replace(seeing(use_cameras=True), recording=AS_IN_QUICKSTART),
    **QUICKSTART,
}
"""The quickstart's policy, the same network from the eye alone, and the policy before."""
CAMERAS = {
    **QUICKSTART,
    **{
        f"{name}, known cameras": replace(method, policy=_knowing(method.policy)) for name, method in QUICKSTART.items()
    },
}
"""The quickstart's policy without and with knowing its cameras."""


def _heatmaps(answer: Literal["heatmap", "point"] = "heatmap") -> Training:
    policy = shipped(nano_heatmap())
    assert isinstance(policy.head, HeatmapConfig)
    return replace(policy, head=replace(policy.head, answer=answer))


def _unpretrained(policy: Training) -> Training:
    """``policy`` from nothing; all of it learns, from the first step on."""
    train = replace(policy.train, stages=tuple(replace(stage, rates={}) for stage in policy.train.stages))
    return replace(policy, backbone=policy.backbone.fresh, train=train)


SEVEN_TASKS = Recording(
    name="seven-tasks",
    tasks=("reach", "push", "pick", "place", "stack", "button", "drawer"),
    depth=True,
)
KEYFRAMES = {
    "heatmaps": Method(policy=_heatmaps()),
    "shipped policy": FROM_SHIPPED_POLICY,
    "shipped eye": FROM_SHIPPED,
    "heatmaps from scratch": Method(policy=_unpretrained(_heatmaps())),
    "the point as numbers": Method(policy=_heatmaps("point")),
}
"""BridgeVLA small, the chunk policies, and what of it makes the difference."""


SEQUENCE = Recording(name="five-in-a-row", tasks=("reach", "button", "tabletop-spatial/off-bin", "pick", "place"))
"""In the order in which they are learned."""


def _in_a_row(lr: float = 1e-3, **fields: object) -> Method:
    """The package's policy, which learns one task after the other; it is kept as it was after each."""
    policy = _in_small_batches(lr)
    lifelong = LifelongConfig(tasks=SEQUENCE.tasks, episodes=0, **fields)  # pyright: ignore[reportArgumentType]
    return Method(policy=replace(policy, lifelong=lifelong))


def _in_small_batches(lr: float = 1e-3) -> Training:
    policy = nano_tabletop()
    train = replace(policy.train, lr=lr, batch_size=32, save_every=SEQUENCE_STEPS // len(SEQUENCE.tasks), keep_last=5)
    return replace(policy, train=train)


SEQUENCE_STEPS = 300
LIFELONG = {
    "full fine-tuning": _in_a_row(),
    "full, a quarter replayed": _in_a_row(replay=0.25),
    "LoRA": _in_a_row(3e-3, method="lora"),
    "L2M": _in_a_row(3e-3, method="l2m"),
    "CoDyRA": _in_a_row(3e-3, method="codyra", rank=16),
    "all at once": Method(policy=_in_small_batches()),
}
"""Ways to learn five tasks in a row, and what they could come to at best; updates learn at three times the rate."""
