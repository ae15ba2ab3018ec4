import json
import math
from dataclasses import dataclass

import pytest

from configs.run_directory import CONFIG_FILE, MACHINE_FILE, create_run_directory, load_config, write_json


@dataclass(frozen=True, kw_only=True)
class Settings:
    steps: int = 3


def test_a_run_directory_holds_the_config_and_the_machine(tmp_path):
    run = create_run_directory("train", "nano bridge/../x", Settings(steps=7), outputs=tmp_path)
    verb, day, name = run.relative_to(tmp_path).parts
    assert verb == "train" and len(day) == 10
    assert name.endswith("_nano-bridge-..-x")
    assert load_config(Settings, run) == load_config(Settings, run / CONFIG_FILE) == Settings(steps=7)
    assert json.loads((run / MACHINE_FILE).read_text())["cores"] >= 1


def test_a_directory_with_a_config_is_whole_whenever_it_was_killed(tmp_path, monkeypatch):
    def killed_at_the_second(data, path):
        if any(path.parent.iterdir()):
            raise KeyboardInterrupt
        write_json(data, path)

    monkeypatch.setattr("configs.run_directory.write_json", killed_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        create_run_directory("rl", "x", Settings(), outputs=tmp_path)
    (run,) = tmp_path.glob("rl/*/*")
    assert [path.name for path in run.iterdir()] == [MACHINE_FILE]


def test_runs_of_the_same_second_do_not_share_a_directory(tmp_path):
    runs = {create_run_directory("eval", "same", Settings(), outputs=tmp_path) for _ in range(5)}
    assert len(runs) == 5


def test_a_missing_or_broken_config_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no run config at .* stopped as it began .* start it anew"):
        load_config(Settings, tmp_path)
    (tmp_path / "picture.png").touch()
    with pytest.raises(FileNotFoundError, match=rf"give a run directory or its {CONFIG_FILE}$"):
        load_config(Settings, tmp_path)
    (tmp_path / CONFIG_FILE).write_text('{"steps": 3')
    with pytest.raises(ValueError, match=f"{CONFIG_FILE} is not JSON"):
        load_config(Settings, tmp_path)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "summary.json"
    write_json({"a": 1}, path)
    with pytest.raises(TypeError):
        write_json({"a": object()}, path)
    assert json.loads(path.read_text()) == {"a": 1}


def test_numbers_that_json_does_not_have_are_null(tmp_path):
    write_json({"p50": math.nan, "rows": [(1.5, math.inf)]}, tmp_path / "x.json")
    assert json.loads((tmp_path / "x.json").read_text(), parse_constant=pytest.fail) == {
        "p50": None,
        "rows": [[1.5, None]],
    }
