"""What a run learns from: the stores' successes, their failures only if asked."""

from dataclasses import replace

import numpy as np
import pytest
from synthetic_demonstrations import make_embodiment, make_episode

from policies.data.windows import WindowConfig
from policies.data.writer import DemonstrationWriter
from policies.imitation.demonstrations import Demonstrations

EMBODIMENT = make_embodiment()


def filled(path, embodiment=EMBODIMENT):
    with DemonstrationWriter.create(path, embodiment) as writer:
        for index in range(4):  # the second fails
            writer.append(make_episode(index, embodiment, 10))
    return path


def test_failures_are_left_out_unless_asked_for(tmp_path):
    paths = [filled(tmp_path / "a"), filled(tmp_path / "b")]
    usual, all_of_it = (Demonstrations(paths, WindowConfig(), failures=failures) for failures in (False, True))
    assert (usual.num_episodes, len(usual)) == (6, 60) and (all_of_it.num_episodes, len(all_of_it)) == (8, 80)
    assert usual.statistics().frames == 60 and Demonstrations(paths[:1], WindowConfig()).statistics().frames == 30


def test_stores_of_two_robots_are_refused_by_what_differs(tmp_path):
    other = filled(tmp_path / "b", replace(EMBODIMENT, control_rate_hz=20.0))
    with pytest.raises(ValueError, match=r"a \(there\).*\n  control_rate_hz: 10\.0 there, 20\.0 now$"):
        Demonstrations([filled(tmp_path / "a"), other], WindowConfig())


@pytest.mark.parametrize("drawn_from", ["all", "motion_starts"])
def test_tasks_are_drawn_by_their_weights(tmp_path, drawn_from):
    paths = [filled(tmp_path / "a"), filled(tmp_path / "b")]  # twice as many frames of pick as of touch
    weighted = Demonstrations(paths, WindowConfig(), weights={"reach": 3.0})
    steps = 16 if drawn_from == "motion_starts" else 40
    frames = np.concatenate([weighted.draw(1, step, 60, frames=drawn_from) for step in range(steps)])
    texts = weighted.sample(frames).text.numpy()
    reach = np.array(["touch" in text for text in weighted.instructions])[texts].mean()
    assert reach == pytest.approx(0.75, abs=0.01)
    with pytest.raises(
        ValueError, match=r"no episodes of \['push'\], which task_weights name; their tasks are \['pick', 'r"
    ):
        Demonstrations(paths, WindowConfig(), weights={"push": 1.0})
