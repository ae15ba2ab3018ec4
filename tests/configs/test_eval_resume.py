"""``vla eval`` writes every episode down as it ends, and goes on where it was killed, to the same results."""

import importlib.util
import json
import shutil
import signal
import subprocess
import sys
import time

import pytest
from episodes import one_episode
from untaught import save_untaught

from configs.cli import main
from configs.eval_record import EvaluatedRun
from policies.conditions import Condition
from policies.episode_log import EpisodeLog, EpisodeRecord, FinishedEpisode
from policies.serving.config import ServeConfig
from policies.serving.server import PolicyServer, running
from policies.vla_policy import VLAPolicy

SMALL = ["--num-envs", "4", "--env.threads", "1", "--tasks", "reach"]
EXPERT = ["expert", "--episodes", "7", "--videos", "2", "--env.image-size-px", "16", *SMALL]
TIMES = ("wall_s", "chunk_latency_ms")


@pytest.fixture(scope="module")
def untaught(tmp_path_factory):
    return save_untaught(tmp_path_factory.mktemp("untaught"))


def evaluated(outputs, *arguments):
    assert main(["eval", *arguments, "--outputs", str(outputs)]) == 0
    return run_of(outputs)


def run_of(outputs):
    (run,) = outputs.glob("eval/*/*")
    return run


def lines_of(run):
    return (run / "episodes.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)


def episodes_of(run):
    """The records without their times, sorted."""
    return sorted(json.dumps(json.loads(line) | {"wall_s": None}, sort_keys=True) for line in lines_of(run))


def results_of(run):
    """The results without times, and the number of worlds."""
    entries = json.loads((run / "results.json").read_text(encoding="utf-8"))
    return [{name: entry[name] for name in entry if name not in (*TIMES, "num_envs")} for entry in entries]


def stopped(run, whole, lines, rest=""):
    """A copy of a whole run as it was after some episodes, of which the next one was half written."""
    shutil.copytree(whole, run)
    (run / "episodes.jsonl").write_text("".join(lines_of(whole)[:lines]) + rest, encoding="utf-8")
    (run / "results.json").unlink()
    (run / "report.html").unlink()
    return run


def check_same(run, whole):
    assert episodes_of(run) == episodes_of(whole)
    assert results_of(run) == results_of(whole)
    assert (run / "report.html").read_bytes() == (whole / "report.html").read_bytes()


def test_every_episode_is_written_down(tmp_path):
    run = evaluated(tmp_path, *EXPERT)
    records = sorted(map(json.loads, lines_of(run)), key=lambda record: record["seed"])
    (entry,) = json.loads((run / "results.json").read_text(encoding="utf-8"))
    for record, known in zip(records, entry["records"], strict=True):
        assert (record["task"], record["suite"], record["instructions"]) == ("reach", None, "given")
        assert all(record[name] == known[name] for name in ("seed", "success", "steps", "instruction", "reward"))
        assert record["wall_s"] > 0 and (record["stage"], record["stages"]) == (1, 1)
        assert (record["video"] is not None) == (record["seed"] < 2)
    assert all((run / record["video"]).read_bytes()[:4] == b"RIFF" for record in records[:2])
    made_by = entry["provenance"]
    assert made_by == json.loads((run / "provenance.json").read_text(encoding="utf-8"))
    assert (made_by["profile"], made_by["robot"], made_by["split"]) == ("fast", "panda", "held_out")
    assert len(made_by["simulator_sha256"]) == 64 and {"mujoco", "torch"} <= set(made_by["versions"])


def test_an_evaluation_goes_on_to_the_same_results_and_repeats_nothing(tmp_path, capsys):
    whole = evaluated(tmp_path / "whole", *EXPERT, "--tasks", "reach+button")
    assert {record["task"] for record in results_of(whole)[0]["records"]} == {"reach", "button"}
    table = capsys.readouterr().out.splitlines()[1:3]
    for lines in (0, 3, 7):
        run = stopped(tmp_path / str(lines), whole, lines, rest='{"suite": null, "ta')
        before = lines_of(whole)[:lines]
        assert main(["eval", "--resume", str(run), "--num-envs", "3"]) == 0
        assert lines_of(run)[:lines] == before and len(lines_of(run)) == 7
        assert episodes_of(run) == episodes_of(whole) and results_of(run) == results_of(whole)
        assert capsys.readouterr().out.splitlines()[1:3] == table
    run = stopped(tmp_path / "again", whole, 5)
    assert main(["eval", "--resume", str(run)]) == 0
    check_same(run, whole)


def test_a_network_goes_on_with_other_peoples_instructions_to_the_last_bit(tmp_path, untaught):
    network = [str(untaught), "--episodes", "3", "--videos", "1", "--instructions", "both", "--threads", "1", *SMALL]
    whole = evaluated(tmp_path / "whole", *network, "--env.perturbation", "colosseum-14:light")
    kinds = [(entry["instructions"], entry["perturbation"]) for entry in results_of(whole)]
    assert kinds == [("given", "colosseum-14:light"), ("shuffled", "colosseum-14:light")]
    run = stopped(tmp_path / "stopped", whole, 4)
    assert main(["eval", "--resume", str(run)]) == 0
    check_same(run, whole)


def test_a_server_is_evaluated_and_gone_on_with(tmp_path, untaught, monkeypatch):
    monkeypatch.delenv("VLA_SERVE_TOKEN", raising=False)
    with running(PolicyServer(VLAPolicy.load(untaught), ServeConfig(port=0))) as port:
        network = [f"ws://127.0.0.1:{port}", "--episodes", "3", "--videos", "0", *SMALL]
        whole = evaluated(tmp_path / "whole", *network, "--without", "language")
        run = stopped(tmp_path / "stopped", whole, 2)
        assert main(["eval", "--resume", str(run)]) == 0
    assert len(lines_of(run)) == 3 and lines_of(run)[:2] == lines_of(whole)[:2]
    (entry,) = results_of(run)
    assert entry["remarks"] == ["the instruction is empty, so the policy can only guess what to do"]
    assert entry["provenance"]["policy_sha256"] is None and entry["provenance"]["policy"] == network[0]


def test_what_would_mix_two_evaluations_is_refused(tmp_path, capsys):
    whole = evaluated(tmp_path / "whole", *EXPERT)
    assert main(["eval", "--resume", str(whole), "--first-seed", "5"]) == 2
    assert "the run goes on as it began, with first_seed 0; got 5" in capsys.readouterr().err
    known = json.loads((whole / "provenance.json").read_text(encoding="utf-8"))
    (whole / "provenance.json").write_text(json.dumps(known | {"simulator_sha256": "other"}), encoding="utf-8")
    before = lines_of(whole)
    assert main(["eval", "--resume", str(whole)]) == 2
    assert "of another evaluation, begin anew: simulator_sha256 was other and is" in capsys.readouterr().err
    assert lines_of(whole) == before
    (whole / "provenance.json").write_text(json.dumps(known), encoding="utf-8")
    with EpisodeLog(whole / "episodes.jsonl"):
        assert main(["eval", "--resume", str(whole)]) == 2
    assert "episodes.jsonl is being written by another process" in capsys.readouterr().err
    (whole / "episodes.jsonl").write_text('{"task": "reach"}\n' + before[0], encoding="utf-8")
    assert main(["eval", "--resume", str(whole)]) == 2
    assert "line 1: expected the record of an episode, got KeyError" in capsys.readouterr().err


def an_episode(seed):
    episode = FinishedEpisode(result=one_episode(seed=seed), wall_s=1.0)
    return EpisodeRecord(condition=Condition(task="reach"), episode=episode)


def test_two_processes_do_not_write_one_file_and_only_a_torn_line_is_dropped(tmp_path):
    path = tmp_path / "episodes.jsonl"
    with EpisodeLog(path) as log:
        log.append(an_episode(0))
        with pytest.raises(ValueError, match="is being written by another process: wait until that has ended"):
            EpisodeLog(path)
        log.append(an_episode(1))
    written, place = path.read_bytes(), path.stat().st_ino
    path.write_bytes(written + b'{"task": "rea')
    with EpisodeLog(path) as log:
        assert path.read_bytes() == written and log.records == [an_episode(0), an_episode(1)]
        log.append(an_episode(2))
    assert len(path.read_bytes().splitlines()) == 3 and path.stat().st_ino == place
    path.write_text('{"task": "rea\n', encoding="utf-8")
    for _ in range(2):
        with pytest.raises(ValueError, match="line 1: expected the record of an episode"):
            EpisodeLog(path)


def test_a_run_that_was_killed_before_its_first_episode_says_how_to_go_on(tmp_path):
    (tmp_path / "provenance.json").write_text("{}", encoding="utf-8")
    for _ in range(2):
        with pytest.raises(ValueError, match="has no finished episode yet: go on with vla eval --resume"):
            EvaluatedRun.read(tmp_path)
        (tmp_path / "episodes.jsonl").touch()


@pytest.mark.slow
def test_an_evaluation_that_is_killed_goes_on_to_the_same_results(tmp_path, untaught):
    """Kill −9 in the middle, three times over, at other moments."""
    network = [str(untaught), "--episodes", "5", "--videos", "2", "--instructions", "both", "--threads", "1", *SMALL]
    whole, killed = evaluated(tmp_path / "whole", *network), tmp_path / "killed"
    command = [sys.executable, "-m", "configs.cli", "eval"]
    started = [*command, *network, "--outputs", str(killed)]
    for lines in (1, 4, 7):
        kill_after(started, killed, lines)
        assert lines <= len(lines_of(run_of(killed))) < 10
        started = [*command, "--resume", str(run_of(killed))]
    before = lines_of(run_of(killed))
    assert main(["eval", "--resume", str(run_of(killed))]) == 0
    assert [line for line in before if line.endswith("\n")] == lines_of(run_of(killed))[: len(before)]
    assert episodes_of(run_of(killed)) == episodes_of(whole) and results_of(run_of(killed)) == results_of(whole)


def kill_after(command, outputs, lines):
    """Kill it as soon as so many episodes have been written down."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        files = list(outputs.glob("eval/*/*/episodes.jsonl"))
        if files and len(files[0].read_bytes().splitlines()) >= lines:
            process.kill()
        time.sleep(0.005)
    assert process.returncode == -signal.SIGKILL


@pytest.mark.skipif(importlib.util.find_spec("gymnasium_robotics") is None, reason="needs the extra fetch")
def test_a_task_of_another_robot_is_refused_before_any_is_played(tmp_path, untaught, capsys):
    asked = ["--tasks", "reach", "fetch/Reach", "--episodes", "1", "--videos", "0", "--threads", "1"]
    assert main(["eval", str(untaught), *asked, "--outputs", str(tmp_path)]) == 2
    assert "the policy is for panda" in capsys.readouterr().err and not list(tmp_path.glob("eval/*/*"))


def test_an_ablation_says_what_the_policy_was_without(tmp_path, untaught, capsys):
    network = [str(untaught), "--episodes", "2", "--videos", "0", "--threads", "1", *SMALL]
    network += ["--without", "pictures", "language"]
    run = evaluated(tmp_path, *network)
    (entry,) = results_of(run)
    assert (entry["instructions"], entry["without"]) == ("none", ["language", "pictures"])
    assert all(record["instruction"] == "" for record in entry["records"])
    assert entry["remarks"] == ["the instruction is empty, so the policy can only guess what to do"]
    assert [json.loads(line)["without"] for line in lines_of(run)] == 2 * [["language", "pictures"]]
    assert "no instruction, black pictures" in (run / "report.html").read_text(encoding="utf-8")
    assert main(["eval", *network, "--instructions", "both"]) == 2
    assert "without language there are no instructions, so they cannot be both" in capsys.readouterr().err
