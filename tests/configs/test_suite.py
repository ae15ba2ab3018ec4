"""``vla suite`` says what is missing, and ``vla eval`` plays LIBERO from its settings to its report."""

import json
import os

import pytest
from untaught import save_untaught

from configs import maniskill_install, suite_install
from configs.cli import main
from configs.suite_install import install_libero, write_libero_config
from envs.simulators import maniskill
from envs.simulators.libero import PYTHON_VARIABLE, libero_embodiment

installed = pytest.mark.skipif(
    not os.environ.get(PYTHON_VARIABLE), reason=f"{PYTHON_VARIABLE} names no Python with LIBERO"
)


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    monkeypatch.setenv(PYTHON_VARIABLE, str(tmp_path / "bin" / "python"))
    monkeypatch.delenv(suite_install.ASSETS_VARIABLE, raising=False)
    return tmp_path


def test_what_is_not_installed_is_told(nowhere, capsys):
    assert main(["suite", "list"]) == 1
    told = capsys.readouterr().out
    assert "libero-90        90 tasks, 400 steps" in told and f"no Python environment at {nowhere}" in told
    assert main(["suite", "check", "--tasks", "libero-goal/7"]) == 2
    assert "vla suite install libero --assets FOLDER" in capsys.readouterr().err
    assert main(["eval", "random", "--suite", "libero-goal", "--outputs", str(nowhere)]) == 2
    assert "LIBERO is not installed" in capsys.readouterr().err
    assert not list(nowhere.glob("eval/*")), "no run is begun that cannot be"


def test_settings_that_an_action_has_not_are_refused_before_any_work(nowhere, capsys):
    with pytest.raises(SystemExit):
        main(["suite", "list", "--workers", "3"])
    told = " ".join(capsys.readouterr().err.split())
    assert "suite list libero has no workers; it has no settings" in told
    assert main(["suite", "install", "--assets", str(nowhere)]) == 2
    assert "expected a folder of LIBERO's assets, with scenes" in capsys.readouterr().err
    assert not (nowhere / "bin").exists()
    assert main(["suite", "check", "--tasks", "libero-gaol"]) == 2
    assert "unknown suite 'libero-gaol'; expected one of libero-spatial" in capsys.readouterr().err


def test_a_step_of_the_installation_that_fails_is_told_with_what_it_said(nowhere):
    python = nowhere / "python"
    python.write_text("#!/bin/sh\necho 'no module named venv' >&2\nexit 3\n")
    python.chmod(0o755)
    with pytest.raises(RuntimeError, match=r"(?s)-m venv .* failed with status 3:\nno module named venv"):
        install_libero(nowhere / "new", python, None, stand_ins=False)


def test_libero_s_config_leads_to_the_package_and_the_assets(nowhere):
    (nowhere / "lib/python3.11/site-packages").mkdir(parents=True)
    write_libero_config(nowhere)
    lines = dict(line.split(": ") for line in (nowhere / "config.yaml").read_text().splitlines())
    assert lines["assets"] == f"'{nowhere}/assets'"
    assert lines["init_states"] == f"'{nowhere}/lib/python3.11/site-packages/libero/libero/init_files'"


def test_maniskill_s_tasks_and_what_is_missing_of_it_are_listed(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv(maniskill.PYTHON_VARIABLE, str(tmp_path / "bin" / "python"))
    assert main(["suite", "list", "maniskill"]) == 1
    told = capsys.readouterr().out
    assert "maniskill/PickCube" in told and f"no Python environment at {tmp_path}" in told
    assert main(["eval", "random", "--suite", "maniskill", "--outputs", str(tmp_path)]) == 2
    assert "vla suite install maniskill" in capsys.readouterr().err


def test_why_nothing_draws_is_told_with_what_was_tried(monkeypatch, tmp_path):
    """On a machine whose Vulkan is too old, and that is not the Debian whose newer one could be unpacked."""
    described = tmp_path / "lvp_icd.json"
    described.touch()
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text("#!/bin/sh\necho 'RuntimeError: ErrorFeatureNotPresent' >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(maniskill_install, "GPU", tmp_path / "none")
    monkeypatch.setattr(maniskill_install, "machine_s_drivers", lambda: [described])
    monkeypatch.setattr(maniskill_install, "why_not_unpacked", lambda: "it is not Debian 12")
    refused = maniskill_install.find_what_draws(tmp_path)
    assert refused[0] == f"{described} does not draw: RuntimeError: ErrorFeatureNotPresent"
    assert "no newer Vulkan can be unpacked here: it is not Debian 12; a newer one (Mesa 25.0.7" in refused[1]
    assert not (tmp_path / maniskill.TRIED_FILE).exists()


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get(maniskill.PYTHON_VARIABLE), reason="needs ManiSkill's Python")
def test_maniskill_from_demonstrations_to_an_evaluation(tmp_path):
    short = ["--env.workers", "1", "--num-envs", "1"]
    assert main(["collect", "maniskill/PushCube", "--episodes", "1", "--path", str(tmp_path / "data"), *short]) == 0
    assert main(["dataset", "info", str(tmp_path / "data")]) == 0
    quick = ["--tasks", "maniskill/PushCube", "--episodes", "2", "--env.suite-steps", "4", "--videos", "0"]
    assert main(["eval", "random", *quick, "--outputs", str(tmp_path)]) == 0
    (run,) = tmp_path.glob("eval/*/*")
    records = [json.loads(line) for line in (run / "episodes.jsonl").read_text().splitlines()]
    assert sorted(record["seed"] for record in records) == [0, 1]
    assert json.loads((run / "provenance.json").read_text())["maniskill"]["versions"]["mani-skill"] == "3.0.1"


@pytest.mark.slow
@installed
@pytest.mark.parametrize(("acts", "side_px"), [("random", 256), ("untaught", 64)])
def test_an_evaluation_from_settings_to_report(acts, side_px, tmp_path):
    policy = acts if acts == "random" else str(save_untaught(tmp_path / "policy", libero_embodiment(64)))
    short = ["--tasks", "libero-goal/7", "--episodes", "2", "--env.suite-steps", "8", "--videos", "1"]
    assert main(["eval", policy, *short, "--outputs", str(tmp_path)]) == 0
    (run,) = tmp_path.glob("eval/*/*")
    records = [json.loads(line) for line in (run / "episodes.jsonl").read_text().splitlines()]
    assert sorted(record["seed"] for record in records) == [0, 1]
    assert {record["instruction"] for record in records} == {"turn on the stove"}
    assert {(record["success"], record["steps"]) for record in records} == {(False, 8)}
    made_by = json.loads((run / "provenance.json").read_text())
    assert made_by["libero"]["versions"]["robosuite"] == "1.4.0"
    from PIL import Image

    (film,) = (run / "videos").glob("*.webp")
    assert Image.open(film).height >= side_px
