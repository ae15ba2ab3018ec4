"""``vla compare`` and ``vla report`` on real evaluations."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import get_args
from urllib.parse import unquote

import pytest
from episodes import one_episode

from configs.cli import main
from configs.commands.compare import Across
from configs.eval_record import WORLDS, EvaluatedRun, check_same_worlds, provenance
from configs.machine import versions
from configs.worlds import EnvConfig
from policies.comparison import PARTS, UnpairedError
from policies.conditions import Condition
from policies.episode_log import EpisodeRecord, FinishedEpisode

SMALL = ["--tasks", "reach", "button", "--episodes", "4", "--num-envs", "4", "--env.threads", "1"]
SMALL += ["--env.image-size-px", "16", "--videos", "1"]


def evaluated(outputs, *arguments):
    assert main(["eval", *arguments, "--outputs", str(outputs)]) == 0
    (run,) = outputs.glob("eval/*/*")
    return str(run)


@pytest.fixture(scope="module")
def expert(tmp_path_factory):
    return evaluated(tmp_path_factory.mktemp("expert"), "expert", *SMALL)


@pytest.fixture(scope="module")
def chance(tmp_path_factory):
    return evaluated(tmp_path_factory.mktemp("chance"), "random", *SMALL)


class Links(HTMLParser):
    def __init__(self, path):
        super().__init__()
        self.found = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.found += [unquote(value) for name, value in attrs if name == "href"]


def test_the_expert_is_better_than_chance(expert, chance, tmp_path, capsys):
    page = tmp_path / "comparison.html"
    assert main(["compare", expert, chance, "--format", "json", "--report", str(page)]) == 0
    content = json.loads(capsys.readouterr().out)
    assert [(each["task"], each["episodes"]) for each in content["comparisons"]] == [
        ("button", 4),
        ("reach", 4),
        ("all tasks", 8),
    ]
    whole = content["comparisons"][-1]
    assert whole["success_a"]["value"] == 1 and whole["verdict"] == "A is better" and whole["difference"]["lo"] > 0
    assert content["a"]["provenance"]["policy"] == "expert" and content["b"]["run"] == chance
    assert "McNemar" in page.read_text(encoding="utf-8")
    assert main(["compare", chance, expert, "--format", "markdown"]) == 0
    assert re.search(r"\| all tasks \| 8 \| .* \| B is better \|", capsys.readouterr().out)


def test_the_same_is_a_tie_and_it_is_told_how_many_episodes_it_takes(expert, capsys):
    assert main(["compare", expert, expert]) == 0
    printed = capsys.readouterr().out
    assert printed.count("a tie within the noise") == 3
    assert "a difference of 10 points is found in nine of ten evaluations with" in printed


def test_other_worlds_and_other_episodes_are_refused(expert, tmp_path, capsys):
    other = evaluated(tmp_path, "expert", *SMALL, "--split", "train", "--tasks", "reach")
    assert main(["compare", expert, other]) == 2
    assert "not the same (split: A has held_out, B train)" in capsys.readouterr().err
    assert main(["compare", expert, other, "--across", "split"]) == 2
    assert "only A has button (seeds 0 … 3)" in capsys.readouterr().err
    assert main(["compare", expert, other, "--across", "split", "--common", "--format", "json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["comparisons"]
    assert (found["task"], found["episodes"], found["left_out"]) == ("reach", 4, 0)
    assert main(["compare", expert, str(tmp_path)]) == 2
    assert "expected a run of vla eval, with provenance.json" in capsys.readouterr().err


def run_on(task, **made_by):
    """A run of one episode, made by what is named."""
    episode = FinishedEpisode(result=one_episode(task), wall_s=1.0)
    records = [EpisodeRecord(condition=Condition(task=task), episode=episode)]
    return EvaluatedRun(path=Path("run"), provenance=made_by, records=records)


@pytest.mark.parametrize(
    ("task", "ours", "theirs", "told"),
    [
        ("libero-10/1", {"suite_steps": 0}, {"suite_steps": 9}, "suite_steps: A has 0, B 9"),
        ("reach", {"versions": {"mujoco": "3"}}, {"versions": {"mujoco": "4"}}, "simulator mujoco: A has 3, B 4"),
        (
            "fetch/reach",
            {"versions": {"gymnasium-robotics": "1"}},
            {"versions": {"gymnasium-robotics": "2"}},
            "simulator gymnasium-robotics: A has 1, B 2",
        ),
        (
            "reach",
            {"engine": "warp", "versions": {"warp-lang": "1"}},
            {"engine": "warp", "versions": {"warp-lang": "2"}},
            "simulator warp-lang: A has 1, B 2",
        ),
        (
            "libero-10/1",
            {"libero": {"versions": {"robosuite": "1.4"}, "stand_in_assets": []}},
            {"libero": {"versions": {"robosuite": "1.4"}, "stand_in_assets": ["wood.png"]}},
            r"simulator libero stand_in_assets: A has \[\], B \['wood.png'\]",
        ),
        (
            "maniskill/PickCube-v1",
            {"maniskill": {"versions": {"sapien": "3.0"}, "drawn_by": "llvmpipe"}},
            {"maniskill": {"versions": {"sapien": "3.1"}, "drawn_by": "llvmpipe"}},
            "simulator maniskill sapien: A has 3.0, B 3.1",
        ),
    ],
)
def test_other_simulators_are_named_where_both_runs_say_theirs(task, ours, theirs, told):
    a, b, older = run_on(task, **ours), run_on(task, **theirs), run_on(task)
    with pytest.raises(UnpairedError, match=rf"not the same \({told}\); --across NAME"):
        check_same_worlds(a, b)
    check_same_worlds(a, b, across=("suite_steps" if "suite_steps" in ours else "simulator",))
    check_same_worlds(a, older)
    check_same_worlds(older, b)


def test_packages_that_simulate_nothing_of_a_run_may_differ():
    others = ("robosuite", "warp-lang", "torch")
    a, b = (run_on("reach", engine="cpu", versions=dict.fromkeys(others, number)) for number in "12")
    check_same_worlds(a, b)


def test_whatever_worlds_must_agree_in_can_be_compared_across():
    assert set(get_args(Across)) == {*PARTS, "split", "simulator", *WORLDS}
    made_by = provenance("random", EnvConfig(suite_steps=9), "train")
    assert made_by["suite_steps"] == 9
    installed = versions(("mujoco-warp", "warp-lang", "gymnasium-robotics"))
    assert installed.items() <= made_by["versions"].items()


def test_the_leaderboard_ranks_runs_and_its_links_lead_to_videos(expert, chance, tmp_path, capsys):
    page = tmp_path / "deep" / "leaderboard.html"
    assert main(["report", chance, expert, "--output", str(page)]) == 0
    assert str(page) in capsys.readouterr().out
    text = page.read_text(encoding="utf-8")
    assert text.index("_expert</td>") < text.index("_random</td>") and "-100.0 (" in text
    assert text.count("100.0% [67.6%, 100.0%] of 8") == 1
    links = Links(page).found
    assert len(links) == 4 and all((page.parent / link).read_bytes()[:4] == b"RIFF" for link in links)


def test_what_is_no_evaluation_is_refused_by_the_leaderboard(expert, tmp_path, capsys):
    assert main(["report", expert, str(tmp_path)]) == 2
    assert "expected a run of vla eval" in capsys.readouterr().err
    assert main(["report"]) == 2
    assert "name at least one run of vla eval" in capsys.readouterr().err
