"""A policy in its own thread, so that the network side never waits for it, and connections are answered together."""

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from envs.specs import TASK_KEY
from policies.policy import Plan, Policy
from policies.serving.batching import batch_of, underway_of
from policies.serving.keys import ObservationError, observation_fields
from policies.serving.underway import RunningChunk
from policies.serving.worker import BatchWorker, Gathering

log = logging.getLogger(__name__)


class InferenceStoppedError(RuntimeError):
    """The server is closing: no inference will be done or finished."""


class InferenceTimeoutError(RuntimeError):
    """No actions in time. No ``TimeoutError``: a policy that waits for something itself may raise one."""


class ClientGoneError(ConnectionError):
    """The client has left, so that nobody waits for the answer."""


@dataclass(frozen=True, kw_only=True)
class Inference:
    """One chunk ``(h, a)``, what the policy remembers after it, its remarks on the instruction where they were asked
    for, and where the milliseconds went: waiting, in all work, in the policy alone. ``batch`` requests were answered
    together, all in that time. ``answer`` is what the policy says of the chunk, if it speaks.
    """

    actions: np.ndarray
    memory: Any
    queue_ms: float
    infer_ms: float
    policy_ms: float
    remarks: list[str]
    batch: int = 1
    answer: str = ""


@dataclass(frozen=True, kw_only=True)
class Question:
    """One unbatched observation, in our keys, and what belongs to it: what the policy remembers of the episode (None at
    its beginning), what the robot goes on doing, and whether the policy is asked for remarks on the instruction.
    """

    observation: Mapping[str, Any]
    memory: Any = None
    underway: RunningChunk | None = None
    remark: bool = False


class InferenceThread:
    """Asks ``policy`` for one batch of observations after the other, first come, first served.

    Batches are as large as ``gathering`` and the policy's ``rows_at_once`` allow. A policy that remembers is asked by
    each connection alone: only it knows what its memories are. What it remembers is the caller's to keep, so that
    connections cannot disturb each other. Where a batch fails, each of its requests is repeated alone, so that an error
    is nobody's but its own.
    """

    def __init__(self, policy: Policy, gathering: Gathering | None = None) -> None:
        self._policy = policy
        self._optional = {field.key for field in observation_fields(policy.embodiment) if not field.required}
        gathering = gathering or Gathering()
        largest = 1 if policy.remembers else min(gathering.largest, policy.rows_at_once or gathering.largest)
        gathering = Gathering(largest=largest, wait_s=gathering.wait_s if largest > 1 else 0.0)
        self._worker: BatchWorker[tuple[Question, float], Inference] = BatchWorker("policy", self._answer, gathering)
        self._closed = False
        self._abandoned: tuple[Future[Inference], float] | None = None
        """What was running when somebody ceased to wait for it, and when it had to be done."""
        self._awaited: set[asyncio.Future[Inference]] = set()

    @property
    def stuck(self) -> bool:
        """Whether an inference that somebody gave up still occupies the thread after its time."""
        if self._abandoned is None:
            return False
        work, due_s = self._abandoned
        return not work.done() and time.perf_counter() >= due_s

    @property
    def waiting(self) -> int:
        """How many requests wait for the policy."""
        return self._worker.waiting

    @contextmanager
    def client(self) -> Iterator[None]:
        """While somebody is connected who may ask one thing at a time, for whom a batch is worth waiting a little."""
        self._worker.expect(1)
        try:
            yield
        finally:
            self._worker.expect(-1)

    async def run(self, question: Question, timeout_s: float, gone: "asyncio.Future[Any] | None" = None) -> Inference:
        """Infer in the thread; ``gone`` is done when the client has left.

        :class:`InferenceTimeoutError` after ``timeout_s`` of waiting and work together; a policy that has begun cannot
        be interrupted, and still occupies the thread. :class:`InferenceStoppedError` once the thread is closed, also
        for those who wait already. :class:`ClientGoneError` when nobody wants the answer any more; what has not begun
        by then never does. What the policy raises is raised as it is.
        """
        if self._closed:
            raise InferenceStoppedError("the server is closing")
        asked_s = time.perf_counter()
        work = self._worker.submit((question, asked_s), _kind(question))
        answer = asyncio.wrap_future(work)
        self._awaited.add(answer)
        limit = asyncio.timeout(timeout_s)
        try:
            with _cancelled_by(gone, answer):
                async with limit:
                    return await answer
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise InferenceTimeoutError(f"no actions within {timeout_s:g} s") from error
        except asyncio.CancelledError:
            if self._closed and answer.cancelled():
                raise InferenceStoppedError("the server is closing") from None
            if gone is not None and gone.done() and answer.cancelled():
                raise ClientGoneError("the client has left before its answer") from None
            raise
        finally:
            self._awaited.discard(answer)
            if work.running():
                self._abandoned = work, asked_s + timeout_s

    def close(self) -> None:
        """Drop waiting work and let the thread end after what it is doing."""
        self._closed = True
        self._worker.close()
        for answer in tuple(self._awaited):
            answer.cancel()

    def _answer(self, asked: list[tuple[Question, float]]) -> list[Inference | Exception]:
        if len(asked) > 1:
            try:
                return [*self._infer(asked)]
            except Exception as error:
                log.info("%d requests that failed together are repeated one by one: %r", len(asked), error)
        return [self._alone(one) for one in asked]

    def _alone(self, one: tuple[Question, float]) -> Inference | Exception:
        try:
            return self._infer([one])[0]
        except KeyError as error:
            key = error.args[0] if error.args else None
            if key in self._optional and key not in one[0].observation:
                return ObservationError(f"this policy needs {key} as well")
            return error
        except Exception as error:
            return error

    def _infer(self, asked: Sequence[tuple[Question, float]]) -> list[Inference]:
        begun_s = time.perf_counter()
        questions = [question for question, _ in asked]
        batch = batch_of([question.observation for question in questions])
        model_s = time.perf_counter()
        with torch.inference_mode():
            memory, plan = self._plan(questions, batch)
        done_s = time.perf_counter()
        # a policy may reuse its chunk's memory for the next batch
        actions = plan.actions.float().cpu().numpy().copy()
        answers = plan.answers or [""] * len(asked)
        remarks = [self._policy.remarks([q.observation[TASK_KEY]]) if q.remark else [] for q in questions]
        end_s = time.perf_counter()
        return [
            Inference(
                actions=chunk,
                memory=memory,
                queue_ms=1e3 * (begun_s - asked_s),
                infer_ms=1e3 * (end_s - begun_s),
                policy_ms=1e3 * (done_s - model_s),
                remarks=said,
                batch=len(asked),
                answer=answer,
            )
            for chunk, said, answer, (_, asked_s) in zip(actions, remarks, answers, asked, strict=True)
        ]

    def _plan(self, questions: Sequence[Question], batch: Mapping[str, Any]) -> tuple[Any, Plan]:
        """The plans, and what to remember, which is nothing where connections are answered together."""
        count, memory = len(questions), questions[0].memory if len(questions) == 1 else None
        state = self._policy.start(count) if memory is None else memory
        everyone = torch.ones(count, dtype=torch.bool)
        chunks = [question.underway for question in questions if question.underway is not None]
        if chunks:
            memory, plan = self._policy.plan_on(state, batch, everyone, underway_of(chunks))
        else:
            memory, plan = self._policy.plan(state, batch, everyone)
        return memory if count == 1 else None, plan


def _kind(question: Question) -> tuple[frozenset[str], bool]:
    """Questions of one kind can be stacked: they have the same keys, whose shapes the robot fixes."""
    return frozenset(question.observation), question.underway is not None


@contextmanager
def _cancelled_by(gone: "asyncio.Future[Any] | None", answer: "asyncio.Future[Any]") -> Iterator[None]:
    """Cancel ``answer`` when ``gone`` is done, if it is within the block."""
    if gone is None:
        yield
        return

    def leave(_: object) -> None:
        answer.cancel()

    gone.add_done_callback(leave)
    try:
        yield
    finally:
        gone.remove_done_callback(leave)
