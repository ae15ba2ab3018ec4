"""Work in processes beside each other, or one after the other where there is one core."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from configs import side_by_side as module
from configs.side_by_side import side_by_side


def where(number: int, alone: bool) -> tuple[int, int, bool]:
    return number, os.getpid(), alone


def fail(alone: bool) -> None:
    raise ValueError("this cannot be")


def stay(folder: Path, number: int, alone: bool) -> None:
    (folder / f"{number}.part").write_text(str(os.getpid()))
    (folder / f"{number}.part").rename(folder / f"{number}.pid")
    time.sleep(60)


def lives(process: int) -> bool:
    """Whether it runs; one that has ended and that nobody has asked after does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("cores", [1, 2])
def test_all_is_done_in_order_and_each_knows_whether_it_is_alone(monkeypatch, cores):
    monkeypatch.setattr(module, "usable_cores", lambda: cores)
    found = side_by_side([partial(where, number) for number in range(3)])
    assert [number for number, _, _ in found] == [0, 1, 2]
    assert {alone for _, _, alone in found} == {cores == 1}
    assert (os.getpid() in {process for _, process, _ in found}) == (cores == 1)


def test_a_failure_is_that_of_the_work(monkeypatch):
    monkeypatch.setattr(module, "usable_cores", lambda: 2)
    with pytest.raises(ValueError, match="this cannot be"):
        side_by_side([partial(where, 0), fail])


def test_nobody_outlives_who_was_killed(tmp_path):
    told = f"""
from functools import partial
from pathlib import Path
from configs import side_by_side as module
from test_side_by_side import stay
if __name__ == "__main__":
    module.usable_cores = lambda: 2
    module.side_by_side([partial(stay, Path({str(tmp_path)!r}), number) for number in range(2)])
"""
    script = tmp_path / "script.py"
    script.write_text(told)
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    parent = subprocess.Popen([sys.executable, script], env={**os.environ, "PYTHONPATH": paths})
    until = time.monotonic() + 60
    while len(pids := list(tmp_path.glob("*.pid"))) < 2:
        assert time.monotonic() < until
        time.sleep(0.05)
    children = [int(path.read_text()) for path in pids]
    assert all(map(lives, children))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    until = time.monotonic() + 20
    while any(map(lives, children)):
        assert time.monotonic() < until, children
        time.sleep(0.05)
