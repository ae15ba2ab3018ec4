"""What a run of learning from reward is, and complete ones by name."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from configs.run_directory import OUTPUTS
from configs.training import EvaluateConfig
from configs.worlds import EnvConfig, Split
from policies.state_policy import StateNetworkConfig
from rl.config import CriticConfig, RLConfig
from rl.rewards.config import ScorerConfig
from rl.robofume.config import RoboFuMEConfig


@dataclass(frozen=True, kw_only=True)
class Config:
    """Which policy to improve, at which tasks, and how."""

    name: str = "nano-ppo"
    """Goes into the run directory's name."""
    policy: Path | None = None
    """The policy to start from: a run, a checkpoint or a policy's folder. One whose head knows a single chunk (bridge,
    mlp) is given a Gaussian about it, of rl.std."""
    tasks: tuple[str, ...] = ("reach", "pick", "place")
    """Tasks or suites, all of them in every iteration."""
    state: StateNetworkConfig | None = None
    """Sizes of a small network of numbers (the preset mlp-ppo), which starts from nothing where no policy is named."""
    rl: RLConfig = field(default_factory=RLConfig)
    robofume: RoboFuMEConfig | None = None
    """Fine-tuning without resets (the preset robofume), of one task that another one undoes. Of rl it heeds iterations,
    num_envs, decisions, execute, discount, std, lr and what else is of the optimiser and the run."""
    data: tuple[Path, ...] = ()
    """robofume: folders of demonstrations of the task and of what undoes it."""
    classifier: Path | None = None
    """robofume: a folder of vla reward train classifier whose word is taken; by default one is fitted to the
    demonstrations."""
    reward: Literal["sparse", "dense"] = "sparse"
    """1 on success, or that and the gain in the task's potential."""
    learned_rewards: tuple[str, ...] = ()
    """Scores that are paid beside it, as potentials: states, towers, a folder of vla reward train, a checkpoint of CLIP
    or SigLIP, or ask:CHECKPOINT; see vla reward."""
    learned_weight: float = 1.0
    """What multiplies each of them."""
    scorer: ScorerConfig = field(default_factory=ScorerConfig)
    """How scores are read off."""
    split: Split = "train"
    """Phrasings of the instructions."""
    arm_start_rad: float = 0.0
    """How far from home the arm starts at most, in joint space (0: at home)."""
    env: EnvConfig = field(default_factory=EnvConfig)
    """The simulated worlds; a policy decides itself what its cameras must look like."""
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    """How the policy is tried out while it learns, every so many iterations; on the run's tasks by default."""
    outputs: Path = OUTPUTS
    """Folder that holds the runs."""

    def __post_init__(self) -> None:
        if not self.tasks:
            raise ValueError("name at least one task or suite: --tasks reach pick place")
        if self.robofume is None and (self.data or self.classifier):
            raise ValueError("data and classifier are for the preset robofume, which alone learns from demonstrations")
        if self.robofume is not None and (self.state is not None or self.learned_rewards):
            raise ValueError("robofume is paid by its classifier alone, and sees pictures: leave state and rewards out")
        if self.state is not None and self.learned_rewards:
            raise ValueError(
                "learned rewards look at pictures, which a state policy's worlds do not draw: leave them out"
            )


LAPTOP = RLConfig(lr=2e-5, threads=1)
"""Learning that fits a laptop's CPU: the backbone stays as it is and sees once, head, spread and critic learn."""


def nano_ppo() -> Config:
    """PPO with a critic and advantages of each decision (GAE): the default."""
    return Config(name="nano-ppo", rl=LAPTOP)


def nano_ppo_dense() -> Config:
    """PPO that is also paid for every bit of the way, as the task's potential has it, in more and smaller iterations:
    the fastest, where a simulator knows the way."""
    critic = replace(LAPTOP.critic, lr=3e-3)
    rl = replace(LAPTOP, decisions=8, minibatches=1, epochs=6, lr=4e-5, critic=critic, ema_decay=0.98)
    return Config(name="nano-ppo-dense", reward="dense", rl=rl)


def nano_ppo_async() -> Config:
    """The same, which acts on while it learns, with a policy one iteration old (decoupled PPO)."""
    return Config(name="nano-ppo-async", rl=replace(LAPTOP, staleness=1))


def nano_grpo() -> Config:
    """Whole episodes, eight from each start, compared with each other; no critic (GRPO)."""
    rl = replace(LAPTOP, advantages="grpo", group_size=8, clip_high=0.28, level="action")
    return Config(name="nano-grpo", rl=rl)


def nano_vldac() -> Config:
    """PPO on each number by itself, values of decisions, critic apart, pulled to the first policy (VL-DAC)."""
    rl = replace(
        LAPTOP,
        level="number",
        over="decisions",
        reference_kl=0.05,
        epochs=2,
        critic=CriticConfig(warmup=2, detach=True),
    )
    return Config(name="nano-vldac", rl=rl)


def nano_filtered() -> Config:
    """Imitates its own episodes that succeeded and nothing else: what every other method must beat."""
    rl = replace(LAPTOP, advantages="none", imitate=1.0, epochs=2, target_kl=None)
    return Config(name="nano-filtered", rl=rl)


def mlp_ppo() -> Config:
    """PPO from nothing on what the simulator knows, with dense rewards and no pictures: fast, to try things out."""
    rl = replace(
        LAPTOP,
        iterations=100,
        decisions=32,
        discount=0.95,
        lr=1e-3,
        frozen=(),
        critic=CriticConfig(width=64, warmup=0),
    )
    return Config(name="mlp-ppo", tasks=("reach",), reward="dense", state=StateNetworkConfig(), rl=rl)


def robofume() -> Config:
    """Goes on without resets: forward and back by a classifier's word, with Cal-QL on demonstrations (RoboFuME)."""
    rl = replace(LAPTOP, iterations=48, num_envs=16, decisions=8, discount=0.98, lr=3e-4, grad_clip=10.0, save_every=8)
    return Config(name="robofume", tasks=("open-drawer",), rl=rl, robofume=RoboFuMEConfig())


PRESETS = {
    "nano-ppo": nano_ppo,
    "nano-ppo-dense": nano_ppo_dense,
    "nano-ppo-async": nano_ppo_async,
    "nano-grpo": nano_grpo,
    "nano-vldac": nano_vldac,
    "nano-filtered": nano_filtered,
    "mlp-ppo": mlp_ppo,
    "robofume": robofume,
}
