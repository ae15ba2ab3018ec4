"""What a run writes down can be read by any program, also where the run diverges."""

import json
import math

import pytest

from policies.training.metrics import METRICS_FILE, MetricsLog, RunningMean, read_metrics


def no_constant(name):
    raise AssertionError(f"{name} is no JSON")


@pytest.mark.filterwarnings("ignore:NaN or Inf found")
def test_numbers_of_a_diverging_run_are_null_and_read_back(tmp_path):
    log = MetricsLog(tmp_path, 0)
    log.report(1, {"loss": 0.5, "grad_norm": math.inf}, {})
    log.report(2, {"loss": math.nan, "grad_norm": 2.0}, {})
    log.close()
    lines = (tmp_path / METRICS_FILE).read_text(encoding="utf-8").splitlines()
    assert [json.loads(line, parse_constant=no_constant) for line in lines] == [
        {"step": 1, "loss": 0.5, "grad_norm": None},
        {"step": 2, "loss": None, "grad_norm": 2.0},
    ]
    first, second = read_metrics(tmp_path)
    assert (first["loss"], second["step"], second["grad_norm"]) == (0.5, 2, 2.0)
    assert math.isnan(first["grad_norm"]) and math.isnan(second["loss"])
    MetricsLog(tmp_path, 1).close()
    assert [report["step"] for report in read_metrics(tmp_path)] == [1]


def test_a_mean_that_diverged_goes_on_so_after_a_checkpoint():
    undisturbed = RunningMean()
    undisturbed.add({"loss": 1.0, "grad_norm": math.inf})
    resumed = RunningMean(json.loads(json.dumps(undisturbed.state(), allow_nan=False)))
    for mean in (undisturbed, resumed):
        mean.add({"loss": 2.0, "grad_norm": 1.0})
    taken = resumed.take()
    assert taken["loss"] == undisturbed.take()["loss"] == 1.5 and math.isnan(taken["grad_norm"])
