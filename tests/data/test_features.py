"""What is kept about every frame of a store: made once, block by block, for these data and this maker alone."""

import shutil

import numpy as np
import pytest
from synthetic_demonstrations import make_embodiment, make_episode

from policies.data import features
from policies.data.dataset import DemonstrationDataset
from policies.data.features import FrameFeatures
from policies.data.writer import DemonstrationWriter

ABOUT = {"teacher": "one"}


def written(path, episodes=4):
    embodiment = make_embodiment()
    with DemonstrationWriter.create(path, embodiment) as writer:
        for index in range(episodes):
            writer.append(make_episode(index, embodiment, length=20))
    return DemonstrationDataset(path)


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    monkeypatch.setattr(features, "BLOCK_FRAMES", 32)
    return written(tmp_path / "store")


def squares(frames):
    return np.stack([frames, frames**2], axis=1).astype(np.float32)


def test_what_was_made_is_read_back_in_any_order(dataset):
    kept = FrameFeatures(dataset, ABOUT, (2,))
    told = []
    kept.fill(squares, told.append)
    assert told == [32, 64, 80] and kept.missing == []
    frames = np.array([79, 0, 33, 32, 31, 33])
    np.testing.assert_array_equal(FrameFeatures(dataset, ABOUT, (2,)).read(frames), squares(frames))


def test_making_goes_on_where_it_was_stopped(dataset):
    def stopping(frames):
        if frames[0] == 32:
            raise KeyboardInterrupt
        return squares(frames)

    with pytest.raises(KeyboardInterrupt):
        FrameFeatures(dataset, ABOUT, (2,)).fill(stopping)
    again, asked = FrameFeatures(dataset, ABOUT, (2,)), []
    assert again.missing == [1, 2]
    again.fill(lambda frames: asked.append(len(frames)) or squares(frames))
    assert asked == [32, 16]
    np.testing.assert_array_equal(again.read(np.arange(80)), squares(np.arange(80)))


def test_a_block_that_is_cut_short_is_made_anew(dataset):
    kept = FrameFeatures(dataset, ABOUT, (2,))
    kept.fill(squares)
    block = kept.folder / "000001.npy"
    block.write_bytes(block.read_bytes()[:-10])
    again = FrameFeatures(dataset, ABOUT, (2,))
    with pytest.raises(ValueError, match=r"000001\.npy is gone or damaged"):
        again.read(np.array([40]))
    again.fill(squares)
    np.testing.assert_array_equal(again.read(np.arange(80)), squares(np.arange(80)))


def test_another_maker_and_other_data_have_numbers_of_their_own(dataset, tmp_path):
    kept = FrameFeatures(dataset, ABOUT, (2,))
    kept.fill(squares)
    assert FrameFeatures(dataset, {"teacher": "other"}, (2,)).missing
    longer = written(tmp_path / "longer", episodes=5)
    other = FrameFeatures(longer, ABOUT, (2,))
    assert other.missing and other.folder.name != kept.folder.name


def test_numbers_of_other_data_in_its_place_are_refused(dataset, tmp_path):
    longer = written(tmp_path / "longer", episodes=5)
    theirs = FrameFeatures(longer, ABOUT, (2,))
    theirs.fill(squares)
    folder = FrameFeatures(dataset, ABOUT, (2,)).folder
    shutil.copytree(theirs.folder, folder)
    with pytest.raises(ValueError, match=r"holds numbers of something else .* differs in data, frames"):
        FrameFeatures(dataset, ABOUT, (2,))
    (folder / "about.json").write_text("{")
    with pytest.raises(ValueError, match=r"about\.json is damaged; delete its folder"):
        FrameFeatures(dataset, ABOUT, (2,))


def test_numbers_of_another_shape_are_refused(dataset):
    with pytest.raises(ValueError, match=r"expected numbers of shape \(32, 3\), got \(32, 2\)"):
        FrameFeatures(dataset, ABOUT, (3,)).fill(squares)
