"""Runs of ``vla rl`` in processes of their own, which are killed −9 at random moments and gone on with."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_POLL_S, _GONE_S = 0.001, 60.0
_SHORT_S = 0.03
"""Longer than a checkpoint of a tiny policy takes to be written."""


@dataclass(frozen=True)
class Moment:
    """When to kill: after so many seconds of the process's own CPU time, which leave no doubt on a machine that is
    busy with other things; or ``after_s`` seconds after it was first seen at its ``writing``-th checkpoint.
    """

    cpu_s: float = float("inf")
    writing: int = 0
    after_s: float = 0.0

    @classmethod
    def draw(cls, rng: random.Random, life_s: float, index: int) -> "Moment":
        """Every other one lies anywhere in a life of ``life_s`` seconds of CPU time, the others about checkpoints."""
        if index % 2 == 0:
            return cls(cpu_s=rng.uniform(0, life_s))
        return cls(writing=rng.randint(1, 3), after_s=rng.uniform(0, _SHORT_S))


@dataclass
class KilledRun:
    """One run, made by ``vla rl`` with ``command`` in ``folder``, through all the processes that it takes."""

    command: list[str]
    folder: Path
    facts: list[str] = field(default_factory=list)
    """Of each process."""

    @property
    def run_dir(self) -> Path | None:
        """None where a process was killed before it had made one."""
        return next(iter(self.folder.glob("rl/*/*")), None)

    def go_on(self, moment: Moment | None = None) -> bool:
        """Start it, or go on with it, and kill the process at ``moment``; whether it was killed before its end.

        ``AssertionError`` where it ends otherwise than well or killed, or leaves a process behind.
        """
        run_dir = self.run_dir
        if run_dir is not None and not (run_dir / "config.json").exists():
            self._told_to_start_anew(run_dir)
            run_dir = None
        arguments = [*self.command, "--outputs", str(self.folder)] if run_dir is None else ["--resume", str(run_dir)]
        before = _checkpoints(run_dir)
        process = self._start(arguments)
        cpu_s = _kill_at(process, self, moment) if moment else 0.0
        status = process.wait()
        self.facts.append(
            f"{'new' if run_dir is None else 'resumed'}, from checkpoints {before}, {moment}: status {status} after "
            f"{cpu_s:.2f} s of CPU time, checkpoints {_checkpoints(self.run_dir)}"
        )
        assert status in (0, -signal.SIGKILL), self.told()
        return status != 0

    def told(self) -> str:
        """What happened, and what the last process said."""
        log = self.folder / "log"
        return "\n".join([*self.facts, log.read_text(encoding="utf-8")[-3000:] if log.exists() else ""])

    def _start(self, arguments: list[str]) -> subprocess.Popen[bytes]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "configs.cli", "rl", *arguments],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            )

    def _told_to_start_anew(self, run_dir: Path) -> None:
        process = self._start(["--resume", str(run_dir)])
        assert process.wait() == 2 and "start it anew" in self.told(), self.told()
        shutil.rmtree(run_dir)


def cpu_time_s(work: KilledRun) -> float:
    """Let it come to its end; the seconds of CPU time that its process took."""
    before = os.times()
    assert not work.go_on()
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def _kill_at(process: subprocess.Popen[bytes], work: KilledRun, moment: Moment) -> float:
    """Returns the CPU time that the process had, once all that it had started are gone."""
    seen, writing, cpu_s = 0, False, 0.0
    while process.poll() is None:
        cpu_s = _cpu_s(process.pid)
        was, writing = writing, _is_writing(work.run_dir)
        seen += writing and not was
        if cpu_s >= moment.cpu_s or (moment.writing and seen >= moment.writing):
            time.sleep(moment.after_s)
            break
        time.sleep(_POLL_S)
    started = _descendants(process.pid)
    process.kill()
    process.wait()
    deadline = time.monotonic() + _GONE_S
    while left := [pid for pid in started if _lives(pid)]:
        assert time.monotonic() < deadline, f"left behind: {left}\n{work.told()}"
        time.sleep(0.05)
    return cpu_s


def _stat(pid: int) -> list[str]:
    """What /proc says of a process from its state on; nothing where it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _cpu_s(pid: int) -> float:
    stat = _stat(pid)
    return (int(stat[11]) + int(stat[12])) / _TICKS_PER_S if stat else 0.0


def _lives(pid: int) -> bool:
    return _stat(pid)[:1] not in ([], ["Z"])


def _descendants(pid: int) -> list[int]:
    parents = {int(path.name): _stat(int(path.name))[1:2] for path in Path("/proc").iterdir() if path.name.isdigit()}
    found, new = [], [pid]
    while new:
        new = [child for child, parent in parents.items() if parent and int(parent[0]) in new]
        found += new
    return found


def _is_writing(run_dir: Path | None) -> bool:
    return run_dir is not None and any(run_dir.glob("checkpoints/.writing-0*"))


def _checkpoints(run_dir: Path | None) -> list[str]:
    return [] if run_dir is None else sorted(path.name for path in run_dir.glob("checkpoints/*"))
