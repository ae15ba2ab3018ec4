"""Statistics equal numpy's over all values at once, survive JSON, and are renewed when the data grow."""

import json
import os

import numpy as np
import pytest
from synthetic_demonstrations import make_embodiment, make_episode

from policies.data.dataset import STATISTICS_FILE, DemonstrationDataset
from policies.data.layout import DatasetError
from policies.data.statistics import DatasetStatistics, FieldStatistics
from policies.data.writer import DemonstrationWriter

EMBODIMENT = make_embodiment()


def assert_equals_numpy(statistics, values):
    values = values.astype(np.float64)
    expected = {
        "mean": values.mean(0),
        "std": np.sqrt(((values - values.mean(0)) ** 2).mean(0)),
        "min": values.min(0),
        "max": values.max(0),
        "q01": np.percentile(values, 1, axis=0),
        "q99": np.percentile(values, 99, axis=0),
    }
    for name, column in expected.items():
        np.testing.assert_allclose(getattr(statistics, name), column, rtol=1e-12, atol=1e-12, err_msg=name)
    assert statistics.count == len(values)


def test_dataset_statistics(tmp_path):
    lengths = [3, 70, 7, 130]  # unequal, so that averaging per-episode quantiles would be wrong
    episodes = [make_episode(index, EMBODIMENT, length) for index, length in enumerate(lengths)]
    with DemonstrationWriter.create(tmp_path / "store", EMBODIMENT) as writer:
        with pytest.raises(DatasetError, match="no episodes"):
            DemonstrationDataset(tmp_path / "store").statistics()
        for episode in episodes:
            writer.append(episode)
    statistics = DemonstrationDataset(tmp_path / "store").statistics()
    assert_equals_numpy(statistics.state, np.concatenate([episode.state for episode in episodes]))
    assert_equals_numpy(statistics.action, np.concatenate([episode.actions for episode in episodes]))
    assert (statistics.episodes, statistics.frames) == (4, 210)
    assert DatasetStatistics.from_dict(json.loads(json.dumps(statistics.to_dict()))) == statistics


def test_cached_until_the_data_grow(tmp_path):
    path = tmp_path / "store"
    with DemonstrationWriter.create(path, EMBODIMENT) as writer:
        writer.append(make_episode(0, EMBODIMENT))
        first = DemonstrationDataset(path).statistics()
        stamp = (path / STATISTICS_FILE).stat().st_mtime_ns
        assert DemonstrationDataset(path).statistics() == first
        assert (path / STATISTICS_FILE).stat().st_mtime_ns == stamp
        writer.append(make_episode(1, EMBODIMENT))
    assert DemonstrationDataset(path).statistics().episodes == 2
    content = json.loads((path / STATISTICS_FILE).read_text())
    (path / STATISTICS_FILE).write_text(json.dumps(content | {"fingerprint": "of two other episodes"}))
    assert DemonstrationDataset(path).statistics().episodes == 2
    assert json.loads((path / STATISTICS_FILE).read_text()) == content
    (path / STATISTICS_FILE).write_text('{"episodes": 2')
    with pytest.raises(DatasetError, match=r"statistics\.json is corrupt; delete it"):
        DemonstrationDataset(path).statistics()


def test_without_failures(tmp_path):
    episodes = [make_episode(index, EMBODIMENT) for index in range(6)]
    with DemonstrationWriter.create(tmp_path / "store", EMBODIMENT) as writer:
        for episode in episodes:
            writer.append(episode)
    kept = [episode for episode in episodes if episode.success]
    assert len(kept) == 4
    statistics = DemonstrationDataset(tmp_path / "store", failures=False).statistics()
    assert_equals_numpy(statistics.action, np.concatenate([episode.actions for episode in kept]))
    assert DemonstrationDataset(tmp_path / "store").statistics().episodes == 6


def test_where_nothing_can_be_written_statistics_are_computed_and_that_is_said(tmp_path, caplog):
    path = tmp_path / "store"
    with DemonstrationWriter.create(path, EMBODIMENT) as writer:
        writer.append(make_episode(0, EMBODIMENT))
    (path / STATISTICS_FILE).with_name(f"{STATISTICS_FILE}.{os.getpid()}.tmp").mkdir()  # in the way of writing it
    assert DemonstrationDataset(path).statistics().episodes == 1
    assert "not kept" in caplog.text and STATISTICS_FILE in caplog.text
    assert not (path / STATISTICS_FILE).exists()


def test_bad_input():
    good = FieldStatistics.of(np.ones((4, 2), np.float32)).to_dict()
    with pytest.raises(ValueError, match="expected the keys"):
        FieldStatistics.from_dict({name: value for name, value in good.items() if name != "q01"})
    with pytest.raises(ValueError, match="columns of one length"):
        FieldStatistics.from_dict(good | {"std": [1.0]})
    with pytest.raises(ValueError, match=r"expected values of shape \(t, d\)"):
        FieldStatistics.of(np.ones((0, 2), np.float32))
