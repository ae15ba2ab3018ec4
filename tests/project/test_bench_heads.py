"""The comparison of heads runs at any length, leaves a file per cell, and goes on where it stood."""

import importlib
import json
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import pytest

from configs.environments import EnvConfig
from configs.presets import debug
from vla.heads.mlp import MLPConfig

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def heads():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("heads")


def test_a_stopped_comparison_goes_on_and_its_table_comes_of_the_files(heads, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(heads, "ProcessPoolExecutor", InThisProcess)
    monkeypatch.setattr(heads, "HEADS", {"bridge": debug, "mlp": lambda: replace(debug(), head=MLPConfig())})
    small = replace(heads.QUICKSTART, tasks=("reach",), env=EnvConfig(image_size_px=32, threads=1))
    monkeypatch.setattr(heads, "QUICKSTART", small)
    command = ["--demonstrations", "2", "--steps", "2", "--seeds", "0", "--episodes", "2", "--out", str(tmp_path)]
    original, measured = heads.measure, []

    def stopping(cell, data, out):
        if len(measured) == 1:
            raise KeyboardInterrupt
        measured.append(cell.head)
        original(cell, data, out)

    with monkeypatch.context() as patch:
        patch.setattr(heads, "measure", stopping)
        with pytest.raises(KeyboardInterrupt):
            heads.main(command)
    (file,) = tmp_path.glob("*.json")
    cell = json.loads(file.read_text())
    assert (cell["head"], cell["training_seed"], cell["steps"], cell["episodes"]) == ("bridge", 0, 2, 2)
    assert {task: list(won) for task, won in cell["outcomes"].items()} == {"reach": ["0", "1"]}
    assert {"wall_s", "machine", "versions", "commit", "demonstrations"} <= cell.keys()
    written = file.stat().st_mtime_ns

    heads.main(command)
    printed = capsys.readouterr().out
    assert "1 of 2 cells are there already" in printed and file.stat().st_mtime_ns == written
    assert printed.count("bridge ") >= 3 and "bridge − mlp:" in printed

    (tmp_path / file.name).write_text(json.dumps({**cell, "demonstrations": "others"}))
    with pytest.raises(ValueError, match="measured on other demonstrations"):
        heads.main(command)


class InThisProcess:
    """Stands for the pool of processes: each job runs where it is submitted."""

    def __init__(self, jobs, mp_context):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def submit(self, work, *arguments):
        future = Future()
        future.set_result(work(*arguments))
        return future


def test_rows_pool_training_seeds_and_the_difference_pairs_them(heads):
    results = [
        {"head": head, "training_seed": seed, "commit": "a", "outcomes": {"reach": {"0": True, "1": won}}}
        for seed in (1, 0)
        for head, won in (("bridge", seed == 1), ("mlp", False))
    ]
    rows, figures = heads.summarise(results)
    assert [(r["head"], r["task"], r["success"], r["won by training seed"]) for r in rows] == [
        ("bridge", "reach", 0.75, "1 2"),
        ("bridge", "all", 0.75, "1 2"),
        ("mlp", "reach", 0.5, "1 1"),
        ("mlp", "all", 0.5, "1 1"),
    ]
    assert figures["difference"]["value"] == pytest.approx(0.25)
