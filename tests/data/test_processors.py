"""Processors: each transform's inverse undoes it, and the modes map the data where they promise to."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from policies.data.statistics import DatasetStatistics, FieldStatistics
from policies.processors import Normalization, NormalizationMode, Normalizer

torch.set_num_threads(1)
MODES = list(NormalizationMode)


def data_sets(dim=3):
    """Vectors of wide and narrow range; some dimensions constant."""
    rows = st.integers(1, 20)
    values = rows.flatmap(
        lambda t: hnp.arrays(np.float32, (t, dim), elements=st.floats(-100, 100, width=32, allow_subnormal=False))
    )
    constant = hnp.arrays(np.bool_, dim)
    return st.builds(lambda v, c: np.where(c, v[:1], v).astype(np.float32), values, constant)


@settings(max_examples=60, deadline=None)
@given(data=data_sets(), other=data_sets(), mode=st.sampled_from(MODES))
def test_unnormalize_inverts_normalize(data, other, mode):
    normalizer = Normalizer(mode=mode, stats=FieldStatistics.of(data))
    values = torch.from_numpy(other).double()
    normalized = normalizer.normalize(values)
    assert normalized.isfinite().all()
    torch.testing.assert_close(normalizer.unnormalize(normalized), values, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(normalizer.normalize(normalizer.unnormalize(values)), values, rtol=1e-6, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(data=data_sets(), mode=st.sampled_from(MODES))
def test_float32_inverse_is_exact_to_rounding(data, mode):
    normalizer = Normalizer(mode=mode, stats=FieldStatistics.of(data))
    values = torch.from_numpy(data)
    again = normalizer.unnormalize(normalizer.normalize(values))
    assert again.dtype == torch.float32
    torch.testing.assert_close(again, values, rtol=1e-5, atol=5e-5)  # 4 roundings of numbers up to 100


def test_modes_map_the_data_as_promised():
    data = np.random.default_rng(0).normal(3.0, 5.0, (4000, 2)).astype(np.float32)
    stats, values = FieldStatistics.of(data), torch.from_numpy(data).double()
    by_mode = {mode: Normalizer(mode=mode, stats=stats).normalize(values).numpy() for mode in MODES}
    np.testing.assert_array_equal(by_mode[NormalizationMode.IDENTITY], data)
    np.testing.assert_allclose(by_mode[NormalizationMode.MEAN_STD].mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(by_mode[NormalizationMode.MEAN_STD].std(0), 1, rtol=1e-9)
    np.testing.assert_allclose(by_mode[NormalizationMode.MIN_MAX].min(0), -1, rtol=1e-9)
    np.testing.assert_allclose(by_mode[NormalizationMode.MIN_MAX].max(0), 1, rtol=1e-9)
    quantiles = by_mode[NormalizationMode.QUANTILES]
    np.testing.assert_allclose(np.quantile(quantiles, (0.01, 0.99), axis=0), [[-1, -1], [1, 1]], rtol=1e-9)
    assert quantiles.max() > 1  # outliers are kept, not clipped


@pytest.mark.parametrize("mode", MODES[1:])
def test_constant_dimensions_are_only_shifted(mode):
    data = np.tile(np.float32([7.0, -1e-3]), (10, 1))
    normalizer = Normalizer(mode=mode, stats=FieldStatistics.of(data))
    torch.testing.assert_close(normalizer.normalize(torch.from_numpy(data)), torch.zeros(10, 2))
    torch.testing.assert_close(normalizer.normalize(torch.tensor([[7.5, 0.0]])), torch.tensor([[0.5, 1e-3]]))


def test_wrong_width_is_refused():
    normalizer = Normalizer(mode=NormalizationMode.MEAN_STD, stats=FieldStatistics.of(np.eye(3, dtype=np.float32)))
    with pytest.raises(ValueError, match=r"expected 3 dimensions .* got shape \(2, 4\)"):
        normalizer.normalize(torch.zeros(2, 4))


def test_normalization_survives_json():
    rng = np.random.default_rng(1)
    statistics = DatasetStatistics(
        episodes=2,
        frames=9,
        state=FieldStatistics.of(rng.normal(size=(9, 4))),
        action=FieldStatistics.of(rng.normal(size=(9, 2))),
    )
    normalization = Normalization.from_statistics(
        statistics, state=NormalizationMode.MEAN_STD, action=NormalizationMode.QUANTILES
    )
    again = Normalization.from_dict(json.loads(json.dumps(normalization.to_dict())))
    assert again == normalization
    assert (again.state.mode, again.action.stats) == ("MEAN_STD", statistics.action)
