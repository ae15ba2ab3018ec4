"""A policy in its own thread, so that the network side never waits for it."""

import asyncio
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from envs.specs import TASK_KEY
from policies.policy import Policy
from policies.serving.batching import batch_of_one
from policies.serving.keys import ObservationError, observation_fields
from policies.serving.worker import Worker


class InferenceStoppedError(RuntimeError):
    """The server is closing: no inference will be done or finished."""


class InferenceTimeoutError(RuntimeError):
    """No actions in time. No ``TimeoutError``: a policy that waits for something itself may raise one."""


@dataclass(frozen=True, kw_only=True)
class Inference:
    """One chunk ``(h, a)``, what the policy remembers after it, its remarks on the instruction where they were asked
    for, and where the milliseconds went: waiting, in all work, in the policy alone.
    """

    actions: np.ndarray
    memory: Any
    queue_ms: float
    infer_ms: float
    policy_ms: float
    remarks: list[str]


class InferenceThread:
    """Runs ``policy.plan`` for one observation at a time, first come, first served.

    What the policy remembers is the caller's to keep, so that connections cannot disturb each other.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._optional = {field.key for field in observation_fields(policy.embodiment) if not field.required}
        self._worker: Worker[Inference] = Worker("policy")
        self._closed = False
        self._abandoned: Future[Inference] | None = None
        self._awaited: set[asyncio.Future[Inference]] = set()

    @property
    def stuck(self) -> bool:
        """Whether an inference that nobody waits for any more still occupies the thread."""
        return self._abandoned is not None and not self._abandoned.done()

    async def run(
        self, observation: Mapping[str, Any], timeout_s: float, memory: Any = None, *, remark: bool = False
    ) -> Inference:
        """Infer in the thread, with the policy's remarks on the instruction where ``remark`` asks for them.

        ``memory`` is that of the episode's last inference, None at its beginning.

        :class:`InferenceTimeoutError` after ``timeout_s`` of waiting and work together; a policy that has begun cannot
        be interrupted, and still occupies the thread. :class:`InferenceStoppedError` once the thread is closed, also
        for those who wait already. What the policy raises is raised as it is.
        """
        if self._closed:
            raise InferenceStoppedError("the server is closing")
        work = self._worker.submit(partial(self._infer, observation, memory, remark, time.perf_counter()))
        answer = asyncio.wrap_future(work)
        self._awaited.add(answer)
        limit = asyncio.timeout(timeout_s)
        try:
            async with limit:
                return await answer
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise InferenceTimeoutError(f"no actions within {timeout_s:g} s") from error
        except asyncio.CancelledError:
            if self._closed and answer.cancelled():
                raise InferenceStoppedError("the server is closing") from None
            raise
        finally:
            self._awaited.discard(answer)
            if work.running():
                self._abandoned = work

    def close(self) -> None:
        """Drop waiting work and let the thread end after what it is doing."""
        self._closed = True
        self._worker.close()
        for answer in tuple(self._awaited):
            answer.cancel()

    def _infer(self, observation: Mapping[str, Any], memory: Any, remark: bool, asked_s: float) -> Inference:
        begun_s = time.perf_counter()
        batch = batch_of_one(observation)
        model_s = time.perf_counter()
        try:
            with torch.inference_mode():
                state = self._policy.start(1) if memory is None else memory
                memory, (chunk, _) = self._policy.plan(state, batch, torch.ones(1, dtype=torch.bool))
        except KeyError as error:
            key = error.args[0] if error.args else None
            if key in self._optional and key not in observation:
                raise ObservationError(f"this policy needs {key} as well") from error
            raise
        done_s = time.perf_counter()
        actions = chunk[0].float().cpu().numpy().copy()  # a policy may reuse its chunk's memory for the next connection
        remarks = self._policy.remarks(batch[TASK_KEY]) if remark else []
        end_s = time.perf_counter()
        return Inference(
            actions=actions,
            memory=memory,
            queue_ms=1e3 * (begun_s - asked_s),
            infer_ms=1e3 * (end_s - begun_s),
            policy_ms=1e3 * (done_s - model_s),
            remarks=remarks,
        )
