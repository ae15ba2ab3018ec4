"""Decoded files: of what they are named after, whole or not there, and never needed."""

import os
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
import torch
from synthetic_demonstrations import make_embodiment, make_episode

from envs.specs import depth_key, image_key
from policies.data.dataset import DemonstrationDataset
from policies.data.decoded import DECODED_DIR, decoded_file, decoded_views
from policies.data.windows import WindowConfig
from policies.data.writer import DemonstrationWriter

EMBODIMENT = make_embodiment()
IMAGES = [image_key("front"), image_key("wrist")]


def filled(path, count=4):
    with DemonstrationWriter.create(path, EMBODIMENT) as writer:
        for index in range(count):
            writer.append(make_episode(index, EMBODIMENT))
    return DemonstrationDataset(path)


def sampled(dataset, cache):
    windows = WindowConfig(cache=cache, depth=True).build(dataset)
    return windows.sample(np.random.default_rng(0).integers(0, len(windows), 40))


def agree(dataset):
    for name in ("images", "depth"):
        assert torch.equal(getattr(sampled(dataset, "decoded"), name), getattr(sampled(dataset, "disk"), name))


def test_a_file_is_made_once_and_not_read_by_another_store(tmp_path):
    dataset = filled(tmp_path / "store")
    agree(dataset)
    files = sorted((tmp_path / "store" / DECODED_DIR).iterdir())
    stamps = [file.stat().st_mtime_ns for file in files]
    assert len(files) == 2 and decoded_file(dataset, IMAGES) in files
    shutil.copytree(tmp_path / "store", tmp_path / "copy")
    for store in ("store", "copy"):  # the same episodes elsewhere: the same file
        agree(DemonstrationDataset(tmp_path / store))
        assert len(list((tmp_path / store / DECODED_DIR).iterdir())) == 2
    assert [file.stat().st_mtime_ns for file in files] == stamps
    dataset.verify()


def test_names_differ_where_the_content_would(tmp_path):
    dataset = filled(tmp_path / "store")
    depth = [depth_key("front"), depth_key("wrist")]
    kept = DemonstrationDataset(tmp_path / "store", failures=False)
    files = {decoded_file(dataset, keys) for keys in (IMAGES, IMAGES[::-1], IMAGES[:1], depth)}
    files |= {decoded_file(kept, IMAGES), decoded_file(filled(tmp_path / "larger", 5), IMAGES)}
    assert len(files) == 6


def test_after_episodes_came_or_went_it_is_made_anew(tmp_path):
    agree(filled(tmp_path / "store"))
    with DemonstrationWriter.open(tmp_path / "store") as writer:
        writer.remove([0])
        agree(DemonstrationDataset(tmp_path / "store"))
        writer.append(make_episode(9, EMBODIMENT))
    agree(DemonstrationDataset(tmp_path / "store"))


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY\x01\x00", None])
def test_a_damaged_file_is_not_used_and_that_is_said(tmp_path, caplog, damage):
    dataset = filled(tmp_path / "store")
    decoded_views(dataset, IMAGES)
    file = decoded_file(dataset, IMAGES)
    file.write_bytes(file.read_bytes()[:-50] if damage is None else damage)
    agree(dataset)
    assert "read from the store as they are" in caplog.text


def test_where_it_cannot_be_written_all_goes_on_and_that_is_said(tmp_path, caplog):
    dataset = filled(tmp_path / "store")
    (tmp_path / "store" / DECODED_DIR).write_text("in the way")
    agree(dataset)
    assert "read from the store as they are" in caplog.text and DECODED_DIR in caplog.text


def test_on_a_full_disk_all_goes_on(tmp_path, caplog):
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", place], capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    try:
        dataset = filled(place / "store")
        room = os.statvfs(place)
        (place / "ballast").write_bytes(bytes(room.f_bavail * room.f_frsize - 40_000))
        agree(dataset)
        assert "make room" in caplog.text and not list((place / "store" / DECODED_DIR).iterdir())
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def test_another_size_of_the_same_window_is_the_same_file(tmp_path):
    dataset = filled(tmp_path / "store")
    config = WindowConfig(cache="decoded")
    for horizon in (1, 8):
        replace(config, horizon=horizon).build(dataset)
    assert len(list((tmp_path / "store" / DECODED_DIR).iterdir())) == 1
