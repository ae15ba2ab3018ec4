"""The whole way in other projects' simulators: demonstrations, training, evaluation, evaluation through a server."""

import importlib.util
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest

from configs.cli import main
from policies.data.dataset import DemonstrationDataset

SEEN = ["--env.image-size-px", "32", "--env.suite-profile", "fast"]
SHORT = ["--train.steps", "4", "--train.save-every", "4", "--train.log-every", "1", "--train.threads", "1"]


@contextmanager
def served(run_dir):
    """The address of a server process that acts with the policy of a run."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([sys.executable, "-m", "configs.cli", "serve", str(run_dir), "--port", str(port)])
    try:
        for _ in range(600):
            assert server.poll() is None, "the server ended before it was ready"
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5).close()
                break
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.5)
        yield f"ws://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(timeout=60)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["metaworld-mt10/drawer-close", "robosuite/Lift"])
def test_what_is_collected_is_learned_evaluated_and_served(task, tmp_path, capsys):
    extra = {"metaworld-mt10": "metaworld", "robosuite": "robosuite"}[task.partition("/")[0]]
    if importlib.util.find_spec(extra) is None:
        pytest.skip(f"needs the extra {extra}")
    data, outputs = tmp_path / "data", tmp_path / "outputs"
    assert main(["collect", task, "--episodes", "10", "--num-envs", "5", "--path", str(data), *SEEN]) == 0
    records = DemonstrationDataset(data).records
    assert len(records) >= 8 and {record.task for record in records} == {task}
    assert main(["dataset", "info", str(data), "--json", "--verify"]) == 0
    settings = json.loads(capsys.readouterr().out.partition("{")[2].join(["{", ""]))["settings"]
    assert settings["render_profile"]["name"] == "fast" and settings["arm_start_rad"] == 0.0
    assert main(["train", "nano-bridge", "--data", str(data), "--outputs", str(outputs), *SHORT]) == 0
    (run_dir,) = (outputs / "train").glob("*/*")
    asked = ["--tasks", task, "--episodes", "2", "--num-envs", "2", "--videos", "1", "--env.suite-profile", "fast"]
    assert main(["eval", str(run_dir), *asked, "--threads", "1", "--outputs", str(tmp_path / "here")]) == 0
    with served(run_dir) as address:
        assert main(["eval", address, *asked, "--outputs", str(tmp_path / "there")]) == 0
    here, there = (
        [json.loads(line) for line in next((tmp_path / where).glob("eval/*/*/episodes.jsonl")).read_text().splitlines()]
        for where in ("here", "there")
    )
    assert [record["seed"] for record in here] == [record["seed"] for record in there]
    assert all(record["suite"] == task.partition("/")[0] and record["steps"] > 0 for record in here + there)
    assert next((tmp_path / "here").glob("eval/*/*/videos/*.webp")).stat().st_size > 1000
