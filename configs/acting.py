"""What acts in an evaluation: a checkpoint, a policy server, the simulator's scripted expert, or chance."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from configs.environments import acts_in, make_env, seen_as
from configs.machine import check_int8
from configs.worker_suites import seen_by_protocol
from configs.worlds import EnvConfig, Split
from policies.serving.client import ClientConfig, PolicyClient
from rl.feedback.config import FeedbackConfig

if TYPE_CHECKING:
    from configs.environments import AnyEnv
    from policies.policy import Policy

EXPERT, RANDOM = "expert", "random"
UNTAUGHT = (EXPERT, RANDOM)
"""What acts without a network, on whatever robot there is: it reads no instruction and looks at no picture."""
SERVER_SCHEMES = ("ws://", "wss://")


def is_server(source: str | Path) -> bool:
    """Whether ``source`` is a policy server's address."""
    return str(source).startswith(SERVER_SCHEMES)


def load_policy(
    source: str | Path,
    *,
    device: str = "cpu",
    threads: int = 0,
    int8: bool = False,
    answer: bool = True,
    replan_interval: int | None = None,
    client: ClientConfig | None = None,
    at_once: int | None = None,
) -> "Policy":
    """The policy of a run's folder, of one of its checkpoints, or behind a server's ``ws://`` address.

    ``replan_interval`` replaces the policy's own; ``client`` says how to talk to a server. ``at_once``
    answers up to so many observations as fast as it can, instead of each to the same last digit. ``int8`` computes with
    8-bit integers, and each observation alone (:mod:`policies.quantization`). Without ``answer`` a chat head acts
    without a word. ``CheckpointError`` (a ``ValueError``) says what is wrong with a folder, ``ServerUnavailableError``
    that nobody answers.
    """
    if is_server(source):
        from policies.remote import RemotePolicy

        return RemotePolicy([PolicyClient(replace(client or ClientConfig(), url=str(source)))], replan_interval)

    import torch

    from policies.blocks import BLOCK, growing_blocks
    from policies.keyframe_policy import load_vla_policy
    from policies.state_policy import StatePolicy, is_state_policy
    from policies.vla_policy import find_policy

    if threads:
        torch.set_num_threads(threads)
    check_int8(int8, device)
    folder = find_policy(Path(source))
    if is_state_policy(folder):
        if int8:
            raise ValueError(f"{source} is a small policy of numbers, which int8 does not speed up: leave it out")
        return StatePolicy.load(folder, device, replan_interval)
    blocks = (1,) if int8 else growing_blocks(at_once) if at_once else (BLOCK,)
    policy = load_vla_policy(folder, device, replan_interval, blocks=blocks, answer=answer)
    if int8:
        from policies.quantization import quantize_linears

        quantize_linears(policy.vla)
        policy.continues = False  # going on from what is under way needs gradients, which integers have not
    return policy


class Actor:
    """Makes the environment and the policy that belong together, task by task.

    A checkpoint or a server serves every task and decides what the cameras must look like; the expert, which reads
    the simulator, and the policy that acts at random are made anew for each environment.
    """

    def __init__(
        self,
        source: str | Path,
        env: EnvConfig,
        *,
        device: str = "cpu",
        threads: int = 0,
        int8: bool = False,
        answer: bool = True,
        replan_interval: int | None = None,
        client: ClientConfig | None = None,
        rlcf: FeedbackConfig | None = None,
    ) -> None:
        """``rlcf`` lets a network learn while it acts; None, or one without a reward, leaves it as it is."""
        self.source = str(source)
        self._policy: Policy | None = None
        self._env, self._rlcf = env, rlcf
        if self.source not in UNTAUGHT:
            self._policy = load_policy(
                source,
                device=device,
                threads=threads,
                int8=int8,
                answer=answer,
                replan_interval=replan_interval,
                client=client,
            )
            self._env = seen_as(self._policy.embodiment, env) if self._policy.embodiment.cameras else env

    def enter(
        self, task: str, num_envs: int, split: Split, perturbation: str | None = None, filmed: bool = True
    ) -> "tuple[AnyEnv, Policy]":
        """Worlds of ``task``, of the stream ``evaluate``, and what acts in them; the caller closes the environment.

        ``perturbation`` (PRESET:AXIS) replaces the one of the settings. Where nobody looks, neither who acts nor a film
        (``filmed``), nothing is drawn.
        """
        config = replace(self._env, perturbation=perturbation or self._env.perturbation)
        if not self.looks:
            config = seen_by_protocol(task, config)
        knows = self._policy is not None and self._policy.privileged
        env = make_env(
            task, num_envs, stream="evaluate", split=split, config=config, privileged=knows, render=filmed or self.looks
        )
        if self._policy is not None and self._rlcf is not None and self._rlcf.reward:
            return env, _learning(self._policy, self._rlcf, env, task)
        return env, self._policy or _untaught(self.source, env)

    def check(self, tasks: Sequence[str]) -> None:
        """``ValueError`` for a task that it cannot act in, before it acts in any other: one of another robot's, or for
        the expert one without a demonstrator. Of each project whose tasks there are, a world is made and closed again.
        """
        from envs.simulators import has_expert, is_foreign
        from policies.evaluation import check_robot

        for task in tasks if self.source == EXPERT else ():
            if not has_expert(task):
                raise ValueError(f"{task} has no scripted expert: leave it out")
        first = {task.partition("/")[0] if is_foreign(task) else "": task for task in reversed(tasks)}
        for task in first.values() if self._policy is not None and len(first) > 1 else ():
            env, policy = self.enter(task, 1, "train", filmed=False)
            try:
                check_robot(policy.embodiment, env)
            finally:
                env.close()

    def heeds(self, perturbation: str, task: str) -> bool:
        """Whether PRESET:AXIS can change anything for what acts in the task, as it sees it; ``ValueError`` for a task
        that cannot be perturbed.
        """
        calibrated = self._policy is None or self._policy.calibrated
        return acts_in(perturbation, task, depth=self._env.depth, calibration=calibrated)

    @property
    def looks(self) -> bool:
        """Whether what acts sees pictures and reads words; one that does not acts on numbers alone."""
        return self._policy is not None and bool(self._policy.embodiment.cameras)


def _learning(policy: "Policy", config: FeedbackConfig, env: "AnyEnv", task: str) -> "Policy":
    """``policy``, which learns in every episode of ``env`` from a score; ``ValueError`` where it cannot."""
    from configs.goals import goal_describer
    from policies.vla_policy import VLAPolicy
    from rl.feedback.policy import FeedbackPolicy
    from rl.rewards.making import make_scorer
    from rl.vla_agent import VLAAgent, with_distribution

    if not isinstance(policy, VLAPolicy) or policy.remembers:
        raise ValueError(
            f"rlcf.reward {config.reward} needs a network of ours that remembers nothing, whose head can learn; "
            f"got a {type(policy).__name__}"
        )
    side = env.embodiment.cameras[0].height_px
    scorer = make_scorer(
        config.reward,
        config.scorer,
        cameras=env.embodiment.camera_names,
        image_size_px=(side, side),
        describe=goal_describer([task]),
    )
    agent = VLAAgent(with_distribution(policy, config.std))
    return FeedbackPolicy(agent, scorer, config, env)


def _untaught(source: str, env: "AnyEnv") -> "Policy":
    from policies.expert import ExpertPolicy
    from policies.random_policy import RandomPolicy

    return ExpertPolicy(env) if source == EXPERT else RandomPolicy(env.embodiment)
