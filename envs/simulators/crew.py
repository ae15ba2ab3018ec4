"""Worlds of another project's simulator, played by several processes at once; what fails there is played again."""

import contextlib
import logging
import os
import select
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

import numpy as np
from jaxtyping import Float

from envs.forking import check_not_inherited
from envs.simulators.playing import Chunk
from envs.simulators.process import Simulator, WorkerLostError, WorkerProcess, WorldError
from envs.simulators.worker.memory import AT_WORK, STEPS, laid_out, views
from envs.specs import Stream

RERUNS = 2
"""How often an episode is run again whose worker died, hung or returned what is no number, before that is an error."""
_LOOK_S = 0.2
logger = logging.getLogger(__name__)


class Asked(Enum):
    """What a world can be asked for beside a chunk of actions."""

    RESET = "reset"
    EXPERT = "expert"


Wanted = Asked | Float[np.ndarray, "h a"]
"""Of one world: a chunk to play, or what it is asked for."""


class EpisodeLostError(RuntimeError):
    """An episode took its worker down again and again."""


@dataclass(kw_only=True)
class Played:
    """An episode as it was played so far: what it takes to play it again."""

    stream: Stream
    seed: int
    actions: list[Float[np.ndarray, "h a"]] = field(default_factory=list)
    instruction: str = ""
    goal: str = ""
    lost: int = 0


class Crew:
    """``len(settings)`` worlds of ``task`` in ``workers`` processes, each of which plays its share in turn.

    All processes are asked before any is waited for. ``rows`` says what ``observe`` of a world gives: dtype and shape
    by key; ``observation`` holds it, with a row for each world. A worker that dies, hangs or returns what is not finite
    is killed by its own id and replaced, and the episodes that it played are run again from their seeds with the
    actions that they had; where that fails :data:`RERUNS` times more, :class:`EpisodeLostError` names the episode.
    """

    def __init__(
        self,
        task: str,
        simulator: Simulator,
        settings: Sequence[Mapping[str, Any]],
        rows: Mapping[str, tuple[str, tuple[int, ...]]],
        workers: int = 1,
    ) -> None:
        if not 1 <= workers <= len(settings):
            raise ValueError(f"expected 1 … {len(settings)} workers for {len(settings)} worlds, got {workers}")
        self.task, self.num_worlds = task, len(settings)
        self._simulator, self._settings = simulator, [dict(each) for each in settings]
        self._slots = laid_out(len(settings), dict(rows))
        self._memory = os.memfd_create("worlds")
        os.truncate(self._memory, self._slots[-1].end)
        self._arrays = views(self._memory, self._slots)
        self.observation = {name: self._arrays[name] for name in rows}
        self._numbers = [name for name, (dtype, _) in rows.items() if np.dtype(dtype).kind == "f"]
        self.about: dict[int, dict[str, Any]] = {}
        """What each world tells of itself."""
        self._played: dict[int, Played] = {}
        self._owner = os.getpid()
        self._workers: list[WorkerProcess] = []
        self._closed = False
        try:
            self._workers += [
                self._start(share.tolist()) for share in np.array_split(np.arange(len(settings)), workers)
            ]
            for worker in self._workers:
                self._ask_to_make(worker)
            for worker in self._workers:
                self._wait_made(worker)
        except BaseException:
            self.close()
            raise

    @property
    def pids(self) -> list[int]:
        """Of the worker processes."""
        return [worker.pid for worker in self._workers]

    @property
    def steps(self) -> np.ndarray:
        """Control steps that each world's episode has taken."""
        return self._arrays[STEPS].copy()

    def instruction(self, world: int) -> str:
        """What the episode's policy is told."""
        return self._played[world].instruction

    def goal(self, world: int) -> str:
        """What the episode's instruction asks for, whatever the phrasing."""
        return self._played[world].goal

    def reset(self, stream: Stream, seeds: Mapping[int, int], observe: bool = True) -> None:
        """Start the episodes of ``seeds``, by world."""
        for world, seed in seeds.items():
            self._played[world] = Played(stream=stream, seed=seed)
        self._play({world: Asked.RESET for world in seeds}, observe)

    def step(self, actions: Mapping[int, Float[np.ndarray, "h a"]], observe: bool = True) -> dict[int, Chunk]:
        """Play a chunk in each of these worlds; one whose episode ends in it stops there.

        :class:`EpisodeLostError` or :class:`envs.simulators.process.WorldError` for an episode that cannot go on; those
        that other workers play have done so.
        """
        told = self._play(actions, observe)
        return {
            world: Chunk(rewards=np.asarray(rewards), over=bool(over), solved=bool(solved))
            for world, (rewards, over, solved) in told.items()
        }

    def expert_actions(self, worlds: Iterable[int]) -> dict[int, Float[np.ndarray, " a"]]:
        """What the demonstrator of each of these worlds would do now; errors as :meth:`step`."""
        told = self._play({world: Asked.EXPERT for world in worlds}, observe=False)
        return {world: np.asarray(action) for world, (action,) in told.items()}

    def played(self, world: int) -> Played:
        """The world's episode so far: playing the same actions again leads to where it is."""
        episode = self._played[world]
        return replace(episode, actions=list(episode.actions))

    def play_again(self, episodes: Mapping[int, Played]) -> None:
        """Bring worlds to where episodes were, by playing them again without drawing but for the end."""
        for world, episode in episodes.items():
            self._played[world] = Played(stream=episode.stream, seed=episode.seed)
        self._play({world: Asked.RESET for world in episodes}, observe=True)
        moved = {world: np.concatenate(episode.actions) for world, episode in episodes.items() if episode.actions}
        if moved:
            self._play(moved, observe=True)

    def close(self) -> None:
        """End all workers; safe to call twice."""
        if self._closed:
            return
        self._closed = True
        for worker in self._workers:
            worker.dismiss()
        for worker in self._workers:
            worker.end()
        os.close(self._memory)

    def _play(self, asked_for: Mapping[int, Wanted], observe: bool) -> dict[int, list[Any]]:
        """Play a chunk in each world, or what else it is asked for; what each came to.

        All workers have answered when this returns or raises.
        """
        self._check_usable(asked_for)
        wanted, told, troubles = dict(asked_for), {}, []
        left = set(range(len(self._workers)))
        asked: dict[int, WorkerProcess] = {}
        while left or asked:
            for place in left:
                if shares := [(world, wanted[world]) for world in self._workers[place].worlds if world in wanted]:
                    asked[place] = self._workers[place]
                    self._ask(asked[place], shares, observe)
            left = set()
            if not asked:
                break
            place, answer = self._first_answer(asked)
            worker = asked.pop(place)
            if isinstance(answer, WorldError):
                troubles.append(WorldError(f"{self._told_of(worker)} failed: {answer}"))
                for world in worker.worlds:  # nobody knows which of them have moved
                    self._played.pop(world, None)
            elif isinstance(answer, WorkerLostError):
                troubles += self._recover(place, str(answer), wanted)
                left = {place}
            else:
                told |= {int(world): result for world, *result in answer["worlds"]}
        for world, result in told.items():
            asked_of = wanted[world]
            if asked_of is Asked.RESET:
                self._played[world].instruction, self._played[world].goal = result
            elif asked_of is not Asked.EXPERT:
                self._played[world].actions.append(np.asarray(asked_of))
        if troubles:
            raise troubles[0]
        return told

    def _ask(self, worker: WorkerProcess, wanted: list[tuple[int, Any]], observe: bool) -> None:
        """Send a worker its worlds' part; who does not take it is found out when it is waited for."""
        request: dict[str, Any]
        if wanted[0][1] is Asked.RESET:
            episodes = [(world, self._played[world]) for world, _ in wanted]
            request = {"reset": [[w, played.stream, played.seed] for w, played in episodes]}
        elif wanted[0][1] is Asked.EXPERT:
            request = {"expert": [[world] for world, _ in wanted]}
        else:
            request = {"step": [[world, np.asarray(actions).tolist()] for world, actions in wanted]}
        with contextlib.suppress(WorkerLostError):
            worker.ask({**request, "observe": observe}, self._simulator.limit_s)

    def _first_answer(
        self, asked: Mapping[int, WorkerProcess]
    ) -> tuple[int, dict[str, Any] | WorkerLostError | WorldError]:
        """The place of a worker that is done with its part, and its answer or what is wrong with it."""
        while True:
            ready, _, _ = select.select(list(asked.values()), [], [], min(_LOOK_S, self._simulator.limit_s / 4))
            for place, worker in asked.items():
                try:
                    answer = worker.answered(worker in ready, self._simulator.limit_s)
                    if answer is not None:
                        self._check_numbers(answer)
                        return place, answer
                except (WorkerLostError, WorldError) as trouble:
                    return place, trouble

    def _check_numbers(self, answer: Mapping[str, Any]) -> None:
        """:class:`WorkerLostError` unless all that came back is finite."""
        for world, *result in answer["worlds"]:
            bad = [name for name in self._numbers if not np.isfinite(self._arrays[name][world]).all()]
            if isinstance(result[0], list) and not np.isfinite(result[0]).all():
                bad.append("a reward" if len(result) == 3 else "an action")
            if bad:
                self._arrays[AT_WORK][:] = np.arange(self.num_worlds) == world
                raise WorkerLostError(f"returned {', '.join(bad)} that is not finite")

    def _recover(self, place: int, why: str, wanted: dict[int, Any]) -> list[EpisodeLostError]:
        """Put another worker into the place of a lost one, with its episodes where they were.

        Episodes that were lost too often are taken out of ``wanted``, and an error is returned for each.
        """
        given_up = []
        while True:
            lost = self._workers[place]
            told, culprit = self._told_of(lost), self._culprit(lost)
            lost.kill()
            self._forget_what_is_no_number(lost.worlds)
            self._played[culprit].lost += 1
            if self._played[culprit].lost > RERUNS:
                again = f"it was run again {RERUNS} times and is given up"
                given_up.append(EpisodeLostError(f"{told}: the episode's worker {why}; {again}"))
                del self._played[culprit]
                wanted.pop(culprit, None)
            else:
                logger.warning("%s: worker %d %s; another one runs the episode again", told, lost.pid, why)
            try:
                self._workers[place] = self._made(lost.worlds)
            except BaseException:
                self.close()
                raise
            try:
                self._replay(self._workers[place], wanted)
                return given_up
            except (WorkerLostError, WorldError) as error:
                why = str(error)

    def _replay(self, worker: WorkerProcess, wanted: Mapping[int, Any]) -> None:
        """Bring a new worker's worlds to where their episodes were, without looking; but for those to be reset."""
        known = [w for w in worker.worlds if w in self._played and wanted.get(w) is not Asked.RESET]
        for world in known:
            played = self._played[world]
            self._converse(worker, {"reset": [[world, played.stream, played.seed]], "observe": False})
            if played.actions:
                actions = np.concatenate(played.actions).tolist()
                self._converse(worker, {"step": [[world, actions]], "observe": False})

    def _culprit(self, worker: WorkerProcess) -> int:
        """The world that a worker was at when it was lost."""
        known = [world for world in worker.worlds if world in self._played]
        return max(known, key=lambda world: int(self._arrays[AT_WORK][world]))

    def _told_of(self, worker: WorkerProcess) -> str:
        """Task, seed and step of the episode that a worker was at."""
        world = self._culprit(worker)
        played = self._played[world]
        return f"{self.task}, seed {played.seed} of the stream {played.stream}, step {int(self._arrays[STEPS][world])}"

    def _forget_what_is_no_number(self, worlds: Sequence[int]) -> None:
        for values in (self._arrays[name] for name in self._numbers):
            values[list(worlds)] = np.nan_to_num(values[list(worlds)], nan=0.0, posinf=0.0, neginf=0.0)

    def _check_usable(self, worlds: Iterable[int]) -> None:
        check_not_inherited(f"the crew of {self.task}", self._owner)
        if self._closed:
            raise RuntimeError("the environment is closed")
        for world in worlds:
            if world not in self._played:
                raise RuntimeError(f"{self.task}: reset world {world} before stepping it")

    def _start(self, worlds: Sequence[int]) -> WorkerProcess:
        return WorkerProcess(self._simulator, self._memory, self._arrays, worlds)

    def _made(self, worlds: Sequence[int]) -> WorkerProcess:
        """A new worker whose worlds are made."""
        worker = self._start(worlds)
        try:
            self._ask_to_make(worker)
            self._wait_made(worker)
        except BaseException:
            worker.kill()
            raise
        return worker

    def _ask_to_make(self, worker: WorkerProcess) -> None:
        make = [[world, self._settings[world]] for world in worker.worlds]
        slots = [list(slot) for slot in self._slots]
        request = {"make": make, "file": str(self._simulator.file), "slots": slots}
        with contextlib.suppress(WorkerLostError):  # found out when it is waited for
            worker.ask(request, self._simulator.make_limit_s)

    def _wait_made(self, worker: WorkerProcess) -> None:
        try:
            told = self._wait(worker, self._simulator.make_limit_s)
        except (WorkerLostError, WorldError) as error:
            raise RuntimeError(f"{self.task} cannot be made: {error}") from error
        self.about |= {int(world): dict(about) for world, about in told["worlds"]}

    def _converse(self, worker: WorkerProcess, request: Mapping[str, Any]) -> dict[str, Any]:
        worker.ask(request, self._simulator.limit_s)
        return self._wait(worker, self._simulator.limit_s)

    @staticmethod
    def _wait(worker: WorkerProcess, limit_s: float) -> dict[str, Any]:
        while True:
            ready, _, _ = select.select([worker], [], [], min(_LOOK_S, limit_s / 4))
            if (answer := worker.answered(bool(ready), limit_s)) is not None:
                return answer
