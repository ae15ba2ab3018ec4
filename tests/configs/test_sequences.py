"""A sequence of tasks as a run config says it: what is refused before any work, and what a report shows."""

from dataclasses import replace

import pytest
from demonstrations import record

from configs.lifelong import check_sequence
from configs.report.document import render_report
from configs.report.lifelong import described, measures_of, sequence_sections
from configs.training import Config, EvaluateConfig
from policies.imitation.config import TrainConfig
from policies.imitation.lifelong.config import LifelongConfig
from vla.backbones.vlm.config import VLMConfig

TWO = LifelongConfig(tasks=("reach-a", "reach-b"))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Demonstrations of a task that no sequence here names."""
    return record(tmp_path_factory.mktemp("data") / "store", seeds=range(1), num_envs=1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"lifelong": TWO}, "names reach-a, reach-b, of which the data have no demonstration; their tasks are"),
        ({"lifelong": replace(TWO, tasks=(), replay=0.5)}, "name the tasks of the sequence: lifelong.tasks A B"),
        ({"lifelong": TWO, "evaluate": EvaluateConfig(every=5)}, "lifelong.episodes instead of evaluate.every"),
        ({"lifelong": TWO, "train": TrainConfig(task_weights={"a": 2.0})}, "leave out task_weights"),
        ({"lifelong": TWO, "train": TrainConfig(steps=1)}, "a step for each of 2 tasks, got 1 steps"),
        (
            {"lifelong": replace(TWO, method="l2m")},
            "l2m updates a policy that has learned before",
        ),
        (
            {"lifelong": replace(TWO, method="lora"), "init_from": "run", "backbone": VLMConfig(checkpoint="some")},
            "lora is for nano",
        ),
    ],
)
def test_what_cannot_be_learned_in_a_row_is_refused(store, fields, message):
    with pytest.raises(ValueError, match=message):
        check_sequence(Config(data=(store,), **fields))


def test_without_a_sequence_nothing_is_asked_of_the_data():
    check_sequence(Config())


def test_a_report_shows_success_on_every_task_after_every_task():
    trials = [
        {"reach-a": [False] * 4, "reach-b": [False] * 4},
        {"reach-a": [True] * 4, "reach-b": [True] + [False] * 3},
        {"reach-a": [True] * 3 + [False], "reach-b": [True] * 2 + [False] * 2},
    ]
    page = render_report("A sequence", sequence_sections(TWO, trials))
    for text in ("at the start", "after reach-b", ">75%<", "retention", "75.0 %", "success on each task", "2 reach-b"):
        assert text in page
    assert described(measures_of(TWO.tasks, trials)).endswith("retention 75.0 %, forward transfer +25.0 points")
    assert sequence_sections(TWO, []) == []
