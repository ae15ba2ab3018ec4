"""Who acted in an episode, and a person's part as demonstrations of their own."""

import dataclasses

import numpy as np
import pytest
from synthetic_demonstrations import assert_same_episode, make_embodiment, make_episode

from configs.cli import main
from policies.data.corrections import LEAST_FRAMES, runs
from policies.data.dataset import DemonstrationDataset
from policies.data.split import copy_part
from policies.data.writer import DemonstrationWriter

POLICY, HUMAN, HELD = 0, 1, 2


def acted(index, *spans):
    """An episode whose frames were acted by who the spans say: (who, frames)."""
    actor = np.concatenate([np.full(frames, who, np.int32) for who, frames in spans])
    return dataclasses.replace(make_episode(index, make_embodiment(), len(actor), geometry=True), actor=actor)


@pytest.fixture
def store(tmp_path):
    with DemonstrationWriter.create(tmp_path / "D", make_embodiment(), geometry=True, actor=True) as writer:
        writer.append(acted(0, (POLICY, 10), (HUMAN, 7), (HELD, 2), (HUMAN, LEAST_FRAMES), (POLICY, 3)))
        writer.append(acted(2, (POLICY, 8), (HUMAN, LEAST_FRAMES - 1), (POLICY, 5)))
        writer.append(acted(4, (HUMAN, 70)))
    return DemonstrationDataset(tmp_path / "D")


def test_who_acted_is_kept_and_copied(store, tmp_path):
    copy_part(store, [2, 0], tmp_path / "part")
    part = DemonstrationDataset(tmp_path / "part")
    part.verify()
    assert_same_episode(part.episode(1), store.episode(0))
    np.testing.assert_array_equal(part.episode(1).actor[:18], [POLICY] * 10 + [HUMAN] * 7 + [HELD])


def test_a_store_that_does_not_say_who_acted_refuses_episodes_that_do(tmp_path):
    with (
        DemonstrationWriter.create(tmp_path / "D", make_embodiment(), geometry=True) as writer,
        pytest.raises(ValueError, match="not expected"),
    ):
        writer.append(acted(0, (HUMAN, 5)))


def test_a_persons_part_becomes_demonstrations(store, tmp_path, capsys):
    assert main(["dataset", "corrections", str(store.path), str(tmp_path / "C")]) == 0
    assert "3 corrections, 81 frames" in capsys.readouterr().out
    made = DemonstrationDataset(tmp_path / "C")
    assert "actor" not in made.keys
    for number, (source, span) in enumerate([(0, slice(10, 17)), (0, slice(19, 23)), (2, slice(0, 70))]):
        whole, part = store.episode(source), made.episode(number)
        np.testing.assert_array_equal(part.actions, whole.actions[span])
        np.testing.assert_array_equal(part.images["wrist"], whole.images["wrist"][span])
        assert (part.instruction, part.seed, part.success) == (whole.instruction, whole.seed, whole.success)


def test_where_there_is_none_it_says_so(tmp_path, capsys):
    with DemonstrationWriter.create(tmp_path / "D", make_embodiment(), geometry=True, actor=True) as writer:
        writer.append(acted(0, (POLICY, 10)))
    with DemonstrationWriter.create(tmp_path / "E", make_embodiment()) as writer:
        writer.append(make_episode(0, make_embodiment()))
    for name, says in (("D", "holds no correction"), ("E", "does not say who acted")):
        assert main(["dataset", "corrections", str(tmp_path / name), str(tmp_path / "C")]) == 2
        assert says in capsys.readouterr().err
    assert not (tmp_path / "C").exists()


def test_runs_are_found_at_both_ends():
    assert runs(np.int32([1, 1, 1, 1, 0, 1, 1, 0, 1, 1, 1, 1, 1]), HUMAN) == [slice(0, 4), slice(8, 13)]
