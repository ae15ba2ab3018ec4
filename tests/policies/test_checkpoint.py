"""Checkpoints are whole or not there; a damaged one is named, and the one before it is used."""

import json
import logging
import shutil

import pytest
import torch

from policies.training.checkpoint import (
    TrainingState,
    checkpoints,
    clear_leftovers,
    load_newest,
    newest_whole,
    save_checkpoint,
    settle,
    verify_checkpoint,
)
from vla.checkpoint import CheckpointError


def write_policy(folder):
    (folder / "policy.json").write_text("{}")


def save(root, step, keep_last=5):
    tensors = {"weights/a": torch.full((3, 2), float(step)), "optimizer/0/step": torch.tensor(float(step))}
    state = TrainingState(step=step, tensors=tensors, progress={"running": {"loss": 0.1 + step}})
    return save_checkpoint(root, state, "policy", write_policy, keep_last)


def test_what_is_saved_comes_back(tmp_path):
    path = save(tmp_path, 7)
    state = load_newest(tmp_path)
    assert state is not None and state.progress == {"running": {"loss": 7.1}}
    assert path.name == "000007" and state.step == 7
    assert torch.equal(state.tensors["weights/a"], torch.full((3, 2), 7.0))
    assert (tmp_path / "last" / "policy" / "policy.json").read_text() == "{}"


def test_the_newest_are_kept_and_last_points_at_the_newest(tmp_path):
    for step in (5, 10, 15, 20):
        save(tmp_path, step, keep_last=2)
    assert [path.name for path in checkpoints(tmp_path)] == ["000015", "000020"]
    assert (tmp_path / "last").readlink().as_posix() == "000020"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000015", "000020", "last"]


def test_what_a_kill_left_unsettled_is_settled(tmp_path):
    """Killed between the last checkpoint's coming into place and what follows it."""
    for step in (5, 10, 15):
        save(tmp_path, step)
    (tmp_path / "last").unlink()
    (tmp_path / "last").symlink_to("000010")
    settle(tmp_path, 15, keep_last=1, best=5)
    assert {name: (tmp_path / name).readlink().as_posix() for name in ("last", "best")} == {
        "last": "000015",
        "best": "000005",
    }
    assert [path.name for path in checkpoints(tmp_path)] == ["000005", "000015"]


def test_a_folder_in_the_links_place_gives_way(tmp_path):
    save(tmp_path / "run", 5)
    copy = shutil.copytree(tmp_path / "run", tmp_path / "copy", symlinks=False)
    save(copy, 10)
    assert (copy / "last").readlink().as_posix() == "000010"


def test_steps_beyond_six_digits_sort_by_number(tmp_path):
    save(tmp_path, 999_999)
    save(tmp_path, 1_000_000)
    state = load_newest(tmp_path)
    assert state is not None and state.step == 1_000_000


def flip_bit(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


DAMAGES = {
    "corrupt: its content differs": lambda c: flip_bit(c / "training_state" / "tensors.safetensors"),
    "bytes, .* were written": lambda c: cut(c / "training_state" / "tensors.safetensors"),
    "policy/policy.json is missing": lambda c: (c / "policy" / "policy.json").unlink(),
    "no complete checkpoint": lambda c: (c / "manifest.json").unlink(),
    "manifest.json cannot be read": lambda c: cut(c / "manifest.json") or cut(c / "manifest.json"),
}


@pytest.mark.parametrize("message", DAMAGES)
def test_damage_is_named_and_the_checkpoint_before_it_used(tmp_path, caplog, message):
    save(tmp_path, 5)
    newest = save(tmp_path, 10)
    DAMAGES[message](newest)
    with pytest.raises(CheckpointError, match=message):
        verify_checkpoint(newest)
    with caplog.at_level(logging.WARNING):
        state = load_newest(tmp_path)
    assert state is not None and state.step == 5
    assert newest_whole(tmp_path) == tmp_path / "000005"
    assert "skipped a checkpoint" in caplog.text and "000010" in caplog.text


def test_a_damaged_later_checkpoint_does_not_push_out_a_good_one(tmp_path):
    cut(save(tmp_path, 20) / "training_state" / "tensors.safetensors")
    save(tmp_path, 5, keep_last=1)
    save(tmp_path, 10, keep_last=1)
    state = load_newest(tmp_path)
    assert state is not None and state.step == 10
    assert (tmp_path / "last").readlink().as_posix() == "000010"


def test_nothing_whole_is_an_error_and_nothing_at_all_is_a_fresh_start(tmp_path):
    assert load_newest(tmp_path / "none") is None
    cut(save(tmp_path, 5) / "training_state" / "progress.json")
    with pytest.raises(CheckpointError, match=r"none of the checkpoints can be used.*\n.*000005"):
        load_newest(tmp_path)


def test_a_failed_save_leaves_the_last_good_one(tmp_path):
    save(tmp_path, 5)

    def break_off(folder):
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        save_checkpoint(tmp_path, TrainingState(step=10, tensors={}, progress={}), "policy", break_off, keep_last=1)
    state = load_newest(tmp_path)
    assert state is not None and state.step == 5
    assert (tmp_path / ".writing-000010").exists()
    clear_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000005", "last"]


def test_the_manifest_lists_every_file(tmp_path):
    path = save(tmp_path, 3)
    manifest = json.loads((path / "manifest.json").read_text())
    files = {p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()}
    assert set(manifest) == files - {"manifest.json"}


def test_a_state_that_json_cannot_hold_is_refused_by_its_place(tmp_path):
    state = TrainingState(step=1, tensors={}, progress={"running": {"loss": float("nan")}})
    with pytest.raises(ValueError, match=r"running\.loss: expected a finite number, got nan"):
        save_checkpoint(tmp_path, state, "policy", write_policy, 5)
    assert not checkpoints(tmp_path)
