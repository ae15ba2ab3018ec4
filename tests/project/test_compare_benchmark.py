"""``vla bench compare``: what is drawn has the rates and the correlation that are said, and the shares are right."""

import json
import sys

import numpy as np
import pytest


@pytest.fixture
def compare(benchmarks):
    import compare

    yield compare
    sys.modules.pop("compare", None)


def test_what_is_drawn_has_the_rates_and_the_correlation(compare):
    joint = compare.Joint.of(0.9, 0.8, 0.25)
    assert sum(joint) == pytest.approx(1)
    assert joint.both + joint.only_a == pytest.approx(0.9) and joint.both + joint.only_b == pytest.approx(0.8)
    drawn = np.random.default_rng(0).choice(4, size=200_000, p=np.asarray(joint))
    a, b = np.isin(drawn, (0, 1)), np.isin(drawn, (0, 2))
    assert np.corrcoef(a, b)[0, 1] == pytest.approx(0.25, abs=0.01)
    with pytest.raises(ValueError, match="cannot correlate by"):
        compare.Joint.of(0.9, 0.5, 0.9)


def test_a_large_difference_is_found_and_none_is_a_tie(compare, tmp_path, monkeypatch, capsys):
    file = tmp_path / "compare.json"
    monkeypatch.setattr(sys, "argv", ["compare", "--points", "20", "--repeats", "40", "--json", str(file)])
    compare.main()
    rows = json.loads(file.read_text(encoding="utf-8"))["figures"]["rows"]
    assert [row["B"] for row in rows] == ["50%", "50%", "50%", "80%"] and "called a tie" in capsys.readouterr().out
    for row in rows:
        assert float(row["found"].split("%")[0]) >= 90 and float(row["called a tie"].split("%")[0]) >= 80
    assert rows[0] == compare.row(0.5, 0.2, 0.0, 200, 40)
