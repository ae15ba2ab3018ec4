"""The verbs in a row on the smallest possible amounts: what one leaves behind, the next one takes."""

import json
import socket

import pytest

from configs.cli import main
from policies.data.dataset import DemonstrationDataset
from policies.training.metrics import METRICS_FILE

SMALL = ["--env.image-size-px", "32", "--env.threads", "1"]
SHORT = [
    "--train.steps",
    "6",
    "--train.save-every",
    "3",
    "--train.log-every",
    "1",
    "--train.threads",
    "1",
]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "reach"
    assert main(["collect", "reach", "--episodes", "2", "--path", str(path), *SMALL]) == 0
    return path


def newest(outputs, verb):
    (run_dir,) = (outputs / verb).glob("*/*")
    return run_dir


@pytest.fixture(scope="module")
def run_dir(dataset, tmp_path_factory):
    outputs = tmp_path_factory.mktemp("outputs")
    assert main(["train", "debug", "--data", str(dataset), "--outputs", str(outputs), *SHORT]) == 0
    return newest(outputs, "train")


def test_a_recording_is_added_to(dataset, capsys):
    assert main(["collect", "reach", "--episodes", "3", "--path", str(dataset), *SMALL]) == 0
    assert "reach: 1 recorded, 0 failed, 2 there already" in capsys.readouterr().out
    assert [record.seed for record in DemonstrationDataset(dataset).records] == [0, 1, 2]


def test_a_dataset_tells_what_it_holds(dataset, capsys):
    assert main(["dataset", "info", str(dataset), "--json", "--verify"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert about["tasks"]["reach"]["episodes"] == about["episodes"] == len(DemonstrationDataset(dataset).records)
    assert (about["settings"]["stream"], about["settings"]["arm_start_rad"]) == ("demonstrate", 0.3)
    assert main(["dataset", "info", str(dataset)]) == 0
    assert "observation.state" in capsys.readouterr().out


def test_training_leaves_a_report_and_runs_again_to_the_same_numbers(run_dir, tmp_path, capsys):
    assert "<svg" in (run_dir / "report.html").read_text()
    assert main(["train", "--config", str(run_dir), "--outputs", str(tmp_path)]) == 0
    again = newest(tmp_path, "train")
    assert (again / METRICS_FILE).read_text() == (run_dir / METRICS_FILE).read_text()


def test_a_stopped_training_goes_on_to_the_same_numbers(run_dir, tmp_path):
    copy = tmp_path / "run"
    copy.mkdir()
    (copy / "config.json").write_text((run_dir / "config.json").read_text())
    (copy / "checkpoints").mkdir()
    half = run_dir / "checkpoints" / "000003"
    (copy / "checkpoints" / "000003").symlink_to(half)
    lines = (run_dir / METRICS_FILE).read_text().splitlines(keepends=True)
    (copy / METRICS_FILE).write_text("".join(lines[:3]))
    assert main(["train", "--resume", str(copy)]) == 0
    assert (copy / METRICS_FILE).read_text() == "".join(lines)


def test_an_evaluation_leaves_records_and_a_report(run_dir, tmp_path, capsys):
    command = ["eval", str(run_dir), "--tasks", "reach", "--episodes", "2", "--instructions", "both", "--videos", "1"]
    assert main([*command, "--num-envs", "2", "--env.threads", "1", "--threads", "1", "--outputs", str(tmp_path)]) == 0
    assert "reach" in capsys.readouterr().out
    evaluated = newest(tmp_path, "eval")
    given, shuffled = json.loads((evaluated / "results.json").read_text())
    assert [given["instructions"], shuffled["instructions"]] == ["given", "shuffled"]
    assert given["stream"] == "evaluate" and [record["seed"] for record in given["records"]] == [0, 1]
    assert "seeds 0 … 1 of the stream evaluate" in (evaluated / "report.html").read_text()
    assert (evaluated / "report.html").read_text().count("data:image/webp") == 1


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["train", "debug"], "--data FOLDER"),
        (["train", "debug", "--data", "nowhere"], "nowhere"),
        (["eval", "nowhere"], "no policy.json in any of"),
        (["eval", "expert", "--tasks", "fold"], "unknown task or suite 'fold'; expected one of reach, pick, place"),
        (["eval", "expert", "--episodes", "0"], "expected at least one episode and seeds from 0 on, got 0"),
        (["eval", "expert", "--first-seed", "-1"], "got 50 from seed -1 on"),
        (["collect", "reach", "--arm-start-rad", "1.5"], "arm_start_rad must lie in 0 … 1, got 1.5"),
        (["eval", "ws://127.0.0.1:9", "--episodes", "1"], "127.0.0.1:9"),
        (["serve", "nowhere"], "no policy.json in any of"),
        (["serve", "nowhere", "--port", "70000"], "port must lie in 0 … 65535"),
        (["train", "--config", "nowhere"], "no run config at nowhere"),
        (["train", "--resume"], "--resume needs a path"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(command, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(command) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert not (tmp_path / "outputs").exists(), "something was begun before the mistake was found"


def test_a_setting_out_of_range_is_refused_with_its_flag(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["collect", "reach", "--env.image-size-px", "0"])
    assert stopped.value.code == 2
    assert "image_size_px must be at least 16, got 0" in capsys.readouterr().err


def test_a_taken_port_is_said_plainly(run_dir, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert main(["serve", str(run_dir), "--port", str(taken.getsockname()[1])]) == 2
    assert "is in use by another program" in capsys.readouterr().err
