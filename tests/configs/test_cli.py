import subprocess
import sys
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from configs.cli import VERBS, main, run_verb
from configs.run_directory import create_run_directory


@dataclass(frozen=True, kw_only=True)
class Settings:
    steps: int = 3
    name: str = "a"


def verb(**extra):
    calls = []

    def run(config):
        calls.append(config)
        return 0

    return SimpleNamespace(Config=Settings, run=run, __doc__="A verb.", calls=calls, **extra)


def test_help_lists_every_verb(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in VERBS)


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_has_help(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    assert stopped.value.code == 0
    assert f"usage: vla {name}" in capsys.readouterr().out


def test_help_loads_no_heavy_library():
    heavy = "{'torch', 'mujoco', 'transformers', 'zarr', 'tyro'} & set(sys.modules)"
    code = f"import sys; from configs.cli import main; main(['--help']); sys.exit(str({heavy} or ''))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.stderr.strip() == ""


def test_an_unknown_verb_says_which_were_expected(capsys):
    assert main(["trian"]) == 2
    message = capsys.readouterr().err
    assert "unknown verb 'trian'; did you mean 'train'?" in message and "doctor" in message


def test_an_unknown_flag_says_what_was_meant(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["doctor", "--jsn"])
    assert stopped.value.code == 2
    assert "--json" in capsys.readouterr().err


def test_an_unknown_benchmark_says_which_there_are(monkeypatch, capsys):
    from configs.commands import bench

    monkeypatch.setattr(bench, "available", lambda: ["serve", "sim"])
    assert main(["bench", "sym"]) == 2
    assert "unknown benchmark 'sym'; did you mean 'sim'? expected one of serve, sim" in capsys.readouterr().err


def test_a_benchmark_gets_its_options_and_gives_its_exit_status(monkeypatch, tmp_path):
    from configs.commands import bench

    (tmp_path / "sim.py").write_text("import sys, pathlib; pathlib.Path(sys.argv[-1]).write_text(str(sys.argv[1:-1]))")
    (tmp_path / "broken.py").write_text("raise SystemExit(5)")
    monkeypatch.setattr(bench, "BENCHMARKS", tmp_path)
    monkeypatch.setattr(bench, "available", lambda: ["broken", "sim"])
    figures = tmp_path / "figures.json"
    assert main(["bench", "sim", "--json", str(figures), "--", "--seconds", "3"]) == 0
    assert figures.read_text() == "['--seconds', '3', '--json']"
    assert main(["bench", "broken"]) == 5


def test_benchmarks_are_the_scripts_of_the_checkout(tmp_path):
    from configs.commands import bench

    for name in ("sim.py", "report.py", "serve.py", "notes.txt"):
        (tmp_path / name).touch()
    assert bench.available(tmp_path) == ["serve", "sim"]


def test_a_benchmark_gets_every_option_but_json():
    from configs.commands.bench import arguments

    assert arguments(["sim", "--engine", "warp", "--json", "x.json"]) == [
        "sim",
        "--json",
        "x.json",
        "--",
        "--engine",
        "warp",
    ]
    assert arguments(["sim", "--help"]) == ["sim", "--", "--help"]
    assert arguments(["sim"]) == ["sim"] and arguments(["--help"]) == ["--help"]
    assert arguments(["sim", "--json", "x", "--", "--worlds", "1"]) == ["sim", "--json", "x", "--", "--worlds", "1"]


def test_an_unknown_task_says_which_there_are(capsys):
    assert main(["collect", "pikc"]) == 2
    message = capsys.readouterr().err
    assert "unknown task or suite 'pikc'" in message and "reach" in message
    assert "Traceback" not in message


def test_debug_adds_the_traceback(capsys, tmp_path):
    assert main(["dataset", "info", str(tmp_path / "none"), "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_saved_config_runs_again_with_overrides(tmp_path):
    module = verb()
    run_verb(module, "train", ["--steps", "5"])
    run_dir = create_run_directory("train", "x", module.calls[0], outputs=tmp_path)
    run_verb(module, "train", ["--config", str(run_dir)])
    run_verb(module, "train", ["--config", str(run_dir / "config.json"), "--name", "b"])
    assert module.calls == [Settings(steps=5), Settings(steps=5), Settings(steps=5, name="b")]


def test_resume_hands_over_the_run_directory(tmp_path):
    resumed = []
    module = verb(resume=lambda config, run_dir: resumed.append((config, run_dir)) or 0)
    run_dir = create_run_directory("train", "x", Settings(steps=9), outputs=tmp_path)
    assert run_verb(module, "train", ["--resume", str(run_dir), "--name", "b"]) == 0
    assert resumed == [(Settings(steps=9, name="b"), run_dir)]


def test_presets_are_complete_configs_that_flags_override():
    module = verb(presets=lambda: {"short": ("few steps", Settings(steps=1)), "long": ("many", Settings(steps=99))})
    run_verb(module, "train", ["long", "--name", "c"])
    assert module.calls == [Settings(steps=99, name="c")]
    with pytest.raises(SystemExit):
        run_verb(module, "train", ["medium"])


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--episodes", "0"], "expected at least one episode and seeds from 0 on, got 0"),
        (["--demonstrations", "0"], "expected at least one episode and seeds from 0 on, got 0"),
        (["--arm-start-rad", "-0.1"], "arm_start_rad must lie in 0 … 1, got -0.1"),
        (["--env.image-size-px", "84"], "patch_px must be a multiple of 4 that divides the image size"),
        (["--num-envs", "0"], "num_envs must be at least 1, got 0"),
        (["--training.backbone.heads", "5"], "heads must divide the width 96, got 5"),
    ],
)
def test_a_quickstart_that_cannot_work_is_refused_at_once(tmp_path, capsys, flags, complaint):
    assert main(["quickstart", *flags, "--outputs", str(tmp_path / "outputs")]) == 2
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "outputs").exists()
