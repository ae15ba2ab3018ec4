"""Dead-man's switches."""

import os
import pty
import sys

import pytest

from policies.robots.heartbeat import BEAT_S, file_touched, key_held


class Clock:
    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


def test_a_file_counts_while_it_is_touched_again_and_again(tmp_path):
    file, clock = tmp_path / "alive", Clock()
    file.touch()
    switch = file_touched(file, clock)
    assert not switch.alive()  # it was touched before anybody looked
    for beat in range(3):
        os.utime(file, ns=(0, 1 + beat))
        assert switch.alive()
        clock.now_s += BEAT_S / 2
        assert switch.alive()
    clock.now_s += BEAT_S
    assert not switch.alive()
    file.unlink()
    assert not switch.alive()


def test_a_beat_that_came_while_nobody_looked_is_none(tmp_path):
    file, clock = tmp_path / "alive", Clock()
    switch = file_touched(file, clock)
    assert not switch.alive()
    file.touch()
    clock.now_s += 3.0
    assert not switch.alive()
    os.utime(file, ns=(0, 1))
    clock.now_s += BEAT_S / 2
    assert switch.alive()


def test_a_key_counts_while_the_terminal_repeats_it(monkeypatch):
    keyboard, terminal = pty.openpty()
    clock = Clock()
    with os.fdopen(terminal) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        with key_held(clock) as switch:
            assert not switch.alive()
            os.write(keyboard, b" ")
            assert switch.alive()
            clock.now_s += 1.01 * BEAT_S
            assert not switch.alive()
    os.close(keyboard)


def test_a_key_needs_a_terminal(monkeypatch, tmp_path):
    (tmp_path / "in").touch()
    with (tmp_path / "in").open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        with pytest.raises(ValueError, match="needs a terminal"), key_held():
            pass
