import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from configs.cli import VERBS, main, run_verb, take_flag
from configs.commands.bench import available, file_of
from configs.run_directory import create_run_directory


@dataclass(frozen=True, kw_only=True)
class Network:
    device: str = "cpu"
    rate: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Settings:
    steps: int = 3
    name: str = "a"
    path: Path | None = None
    network: Network = field(default_factory=Network)


def vla(*args, reader_leaves=False, **variables):
    """The command in a process of its own; with ``reader_leaves`` nobody reads what it prints."""
    command = [sys.executable, "-m", "configs.cli", *args]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **variables}
    if not reader_leaves:
        return subprocess.run(command, capture_output=True, check=False, env=environment)
    reading, writing = os.pipe()
    os.close(reading)
    try:
        return subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False, env=environment)
    finally:
        os.close(writing)


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


def test_help_says_what_the_number_of_worlds_changes_and_which_token_counts(capsys):
    said = {}
    for name in ("eval", "serve", "rollout"):
        with pytest.raises(SystemExit):
            main([name, "--help"])
        said[name] = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "no action of any episode, to the last bit. Other processors" in said["eval"]
    assert all("it goes before the environment variable VLA_SERVE_TOKEN" in text for text in said.values())


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
    assert arguments(["--json=x.json", "sim", "--worlds", "1"]) == ["sim", "--json", "x.json", "--", "--worlds", "1"]
    assert arguments([]) == []
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


@pytest.mark.parametrize("place", ["first", "last", "equals"])
def test_resume_and_config_may_stand_anywhere(tmp_path, place):
    resumed = []
    module = verb(resume=lambda config, run_dir: resumed.append((config, run_dir)) or 0)
    run_dir = create_run_directory("train", "x", Settings(steps=9), outputs=tmp_path)
    for flag in ("--resume", "--config"):
        given = [f"{flag}={run_dir}"] if place == "equals" else [flag, str(run_dir)]
        args = [*given, "--name", "b"] if place == "first" else ["--name", "b", *given]
        assert run_verb(module, "train", args) == 0
    assert resumed == [(Settings(steps=9, name="b"), run_dir)] and module.calls == [Settings(steps=9, name="b")]


def test_a_flag_is_taken_with_its_value_and_the_rest_left():
    assert take_flag("--config", ["a", "--config", "x", "--b"]) == ("x", ["a", "--b"])
    assert take_flag("--config", ["--config=-x", "--", "--config", "y"]) == ("-x", ["--", "--config", "y"])
    assert take_flag("--config", ["--configs", "x"]) == (None, ["--configs", "x"])
    for args in (["--config"], ["--config="], ["--config", "--steps"]):
        with pytest.raises(ValueError, match="--config needs a path, got"):
            take_flag("--config", args)
    with pytest.raises(ValueError, match="--config may be given once, got x and y"):
        take_flag("--config", ["--config", "x", "--config=y"])


def test_two_sources_of_settings_are_refused(tmp_path):
    run_dir = str(create_run_directory("train", "x", Settings(), outputs=tmp_path))
    module = verb(resume=lambda config, run_dir: 0, presets=lambda: {"short": ("few", Settings())})
    with pytest.raises(ValueError, match="--resume and --config both say where the settings come from"):
        run_verb(module, "train", ["--resume", run_dir, "--config", run_dir])
    with pytest.raises(ValueError, match=r"the preset short and .* both say where the settings come from"):
        run_verb(module, "train", ["short", f"--config={run_dir}"])
    with pytest.raises(ValueError, match="vla collect has no --resume"):
        run_verb(verb(), "collect", ["--resume", run_dir])


def test_home_is_found_in_flags_and_saved_configs(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    module = verb()
    run_verb(module, "train", ["--path=~/x"])
    create_run_directory("train", "x", Settings(path=Path("~/y")), outputs=tmp_path).rename(tmp_path / "run")
    run_verb(module, "train", ["--config=~/run"])
    assert [config.path for config in module.calls] == [tmp_path / "x", tmp_path / "y"]


def test_home_is_found_in_whatever_names_a_policy(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/x").mkdir(parents=True)
    (tmp_path / "token").write_text("short")
    for args in (["eval", "~/runs/x"], ["serve", "~/runs/x"]):
        assert main(args) == 2
        assert f"{tmp_path}/runs/x" in capsys.readouterr().err
    assert main(["rollout", "reach", "--token-file", "~/token"]) == 2
    assert f"the token in {tmp_path}/token must be" in capsys.readouterr().err
    assert main(["eval", "~nobody-here/x"]) == 2
    assert "the system knows no home folder for ~nobody-here/x" in capsys.readouterr().err


@pytest.mark.parametrize("device", ["cuda", "cuda:3", "mps", "nonsense", ""])
def test_a_device_that_is_not_there_is_refused_in_whatever_setting(monkeypatch, device, tmp_path):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    module = verb()
    run_dir = create_run_directory("train", "x", Settings(network=Network(device=device)), outputs=tmp_path)
    for args in ([f"--network.device={device}"], ["--config", str(run_dir)]):
        with pytest.raises(ValueError, match=rf"network\.device: there is no device '{device}' .* one of cpu$"):
            run_verb(module, "train", args)
    assert module.calls == []


def test_the_devices_that_are_there_are_told_and_taken(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    module = verb()
    for device in ("cpu", "cuda", "cuda:1"):
        run_verb(module, "train", ["--network.device", device])
    with pytest.raises(ValueError, match=r"no device 'cuda:2' .* expected one of cpu, cuda, cuda:0, cuda:1$"):
        run_verb(module, "train", ["--network.device", "cuda:2"])
    assert len(module.calls) == 3


@pytest.mark.parametrize(
    ("args", "place"),
    [
        (["train", "debug", "--data", "D", "--train.device", "cuda"], "train.device"),
        (["quickstart", "--training.train.device", "cuda"], "training.train.device"),
        (["eval", "expert", "--device", "cuda:3"], "device"),
        (["serve", "RUN", "--device", "nonsense"], "device"),
        (["collect", "reach", "--env.engine", "warp", "--env.device", "cuda"], "env.device"),
        (["rollout", "reach", "--env.engine", "warp", "--env.device", "mps"], "env.device"),
    ],
)
def test_every_verb_refuses_a_device_before_any_work(monkeypatch, tmp_path, capsys, args, place):
    import torch

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(args) == 2
    assert f"vla {args[0]}: {place}: there is no device {args[-1]!r}" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
def test_a_number_that_is_not_finite_is_refused(number):
    with pytest.raises(ValueError, match=r"network\.rate: expected a finite number, got"):
        run_verb(verb(), "train", [f"--network.rate={number}"])


@pytest.mark.parametrize("encoding", [pytest.param("latin-1", marks=pytest.mark.slow), "ascii"])
def test_any_terminal_can_show_what_is_printed(encoding):
    from configs.cli import unknown_choice  # its docstring and many messages hold signs that these lack

    assert "…" in unknown_choice.__doc__
    for args in (["eval", "--help"], ["serve", "RUN", "--port", "99999"]):
        done = vla(*args, PYTHONIOENCODING=encoding)
        assert b"Traceback" not in done.stderr and done.returncode in (0, 2)
    assert b"port must lie in 0 ? 65535" in done.stderr


@pytest.mark.parametrize(
    ("args", "unbuffered"),
    [
        (["--help"], ""),
        (["--help"], "1"),
        (["eval", "--help"], ""),
        (["eval", "--help"], "1"),
        (["doctor", "--json"], ""),
        pytest.param(["doctor", "--json"], "1", marks=pytest.mark.slow),
    ],
)
def test_a_reader_that_leaves_ends_the_command_quietly(args, unbuffered):
    done = vla(*args, reader_leaves=True, PYTHONUNBUFFERED=unbuffered)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("name", available())
def test_every_benchmark_heeds_its_reader(name):
    source = file_of(name).read_text(encoding="utf-8")
    assert "    with ending_with_the_reader():\n        main()\n" in source.partition('if __name__ == "__main__":')[2]


@pytest.mark.slow
def test_a_reader_that_leaves_ends_a_benchmark_quietly():
    once = ["--tasks", "reach", "--engines", "cpu", "--episodes", "1"]
    done = vla("bench", "experts", *once, reader_leaves=True, PYTHONUNBUFFERED="1")
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_broken_pipe_elsewhere_is_still_told(monkeypatch, capsys):
    from configs.commands import doctor

    def broken(config):
        raise BrokenPipeError(32, "Broken pipe", "the policy server")

    monkeypatch.setattr(doctor, "run", broken)
    assert main(["doctor"]) == 2
    assert "the policy server" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["bench", "sim", "--json", "FOLDER"], "is a folder; expected the name of a file"),
        (["rollout", "reach", "--json", "FOLDER"], "is a folder; expected the name of a file"),
        (["rollout", "reach", "--json", "FILE/x.json"], "is not a folder"),
        (["rollout", "reach", "--watchdog-s", "nan"], "watchdog_s must be positive, got nan"),
        (["rollout", "reach", "--replan-interval", "0"], "replan_interval must be at least 1, got 0"),
        (["rollout", "reach", "--env.robot", "pandas"], "('panda', 'panda_mesh', 'ur5e', 'so100')"),
        (["rollout", "reach", "--env.perturbation", "colosseum"], "expected one of colosseum-14"),
        (["rollout", "reach", "--env.device", "cuda:0"], "a device is for the warp engine"),
        (["collect", "reach", "--env.engine", "warp", "--env.threads", "2"], "has no threads to choose"),
        (["serve", "RUN", "--threads", "-1"], "threads must not be negative, got -1"),
        (["serve", "RUN", "--threads", "2", "--device", "cuda"], "threads are for the network on the CPU"),
        (["collect", "reach", "--render-size-px", "128"], "no films are asked for (render 0)"),
        (["dataset", "info", "D", "--episodes", "3"], "dataset info has no episodes; it has json, verify"),
        (["dataset", "info", "D", "--out", "X"], "dataset info has no out"),
        (["dataset", "info", "D", "--sheet-frames", "4"], "dataset info has no sheet_frames"),
        (["dataset", "viz", "D", "--json"], "dataset viz has no json; it has episodes, out, sheet_frames"),
        (["dataset", "viz", "D", "--verify"], "dataset viz has no verify"),
        (["dataset", "remove", "D", "--episodes", "3", "--share", "0.5"], "dataset remove has no share"),
        (["dataset", "delete", "D"], "name the episodes to delete: --episodes 3 7"),
        (["dataset", "merge", "D", "--into", "T"], "a merger needs two datasets or more"),
        (["dataset", "filter", "D", "--success", "True"], "a filter needs two folders: vla dataset filter FROM TO"),
        (["dataset", "check", "D", "--episodes", "3"], "dataset check has no episodes; it has json, report"),
        (["dataset", "split", "D", "--into", "A", "B", "--share", "0.5", "--json"], "dataset split has no json"),
        (["dataset", "split", "D", "--into", "A", "B", "--tasks", "reach", "--seed", "3"], "the seed draws a share"),
        (["eval", "RUN", "--threads", "2", "--device", "cuda"], "threads are for the network on the CPU"),
        (["eval", "RUN", "--threads", "-1"], "threads must not be negative, got -1"),
        (["doctor", "--render-timeout-s", "0"], "render_timeout_s must be positive, got 0.0"),
    ],
)
def test_what_cannot_work_is_refused_with_what_was_expected(tmp_path, capsys, args, complaint):
    (tmp_path / "file").touch()
    args = [arg.replace("FOLDER", str(tmp_path)).replace("FILE", str(tmp_path / "file")) for arg in args]
    try:
        status = main(args)
    except SystemExit as stopped:
        status = stopped.code
    assert status == 2
    assert complaint in " ".join(capsys.readouterr().err.replace("│", " ").split())


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
        (["--training.image-size-px", "84"], "patch_px must be a multiple of 8 that divides the image size"),
        (["--num-envs", "0"], "num_envs must be at least 1, got 0"),
        (["--training.backbone.heads", "5"], "heads must divide the width 96, got 5"),
    ],
)
def test_a_quickstart_that_cannot_work_is_refused_at_once(tmp_path, capsys, flags, complaint):
    assert main(["quickstart", *flags, "--outputs", str(tmp_path / "outputs")]) == 2
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "outputs").exists()
