"""Tasks in colours of our choice: what is on the table and what is said of it, and nothing else."""

import pytest
import torch

from configs.environments import make_env
from configs.worlds import EnvConfig
from envs.props.colours import COLOUR_NAMES
from envs.random import EpisodeRandom
from envs.specs import TASK_KEY
from envs.suites import find_task
from envs.tasks.repainted import in_colours

OTHERS = ("purple", "cyan", "grey", "brown")


@pytest.mark.parametrize("name", ["pick", "place", "stow", "drawer"])
def test_only_the_colours_of_things_change(name):
    random = EpisodeRandom(torch.arange(200), "evaluate")
    task = find_task(name)
    usual, other = task.sample(random), in_colours(task, OTHERS).sample(random)
    bright = torch.tensor(["cyan" in prop.palette for prop in task.props])
    found = {COLOUR_NAMES[i] for i in other.colour[:, bright].unique()}
    assert found == set(OTHERS)
    assert other.colour[:, ~bright].equal(usual.colour[:, ~bright])
    for same in ("position", "present", "opening"):
        assert getattr(other, same).equal(getattr(usual, same))
    assert "red" in {
        COLOUR_NAMES[i] for i in task.sample(random).colour[:, bright].unique()
    }  # the task itself is as it was


def test_an_instruction_names_the_colours_that_are_there():
    env = make_env("pick", 24, stream="evaluate", config=EnvConfig(image_size_px=16, threads=1, palette=OTHERS))
    try:
        said = env.reset(list(range(24)))[TASK_KEY]
    finally:
        env.close()
    assert {colour for text in said for colour in COLOUR_NAMES if colour in text.split()} == set(OTHERS)


@pytest.mark.parametrize("name", ["tabletop-object/red-ball", "reach+pick", "pushT"])
def test_a_task_whose_colours_are_its_own_is_refused(name):
    with pytest.raises(ValueError, match=r"the colours of .* are its own: they cannot be purple, cyan, grey, brown"):
        in_colours(find_task(name), OTHERS)


@pytest.mark.parametrize(
    ("palette", "said"),
    [
        (("red", "mauve"), "unknown colour 'mauve'"),
        (("red",), "two colours or more, none twice, got red"),
        (("red", "red", "blue"), "two colours or more, none twice"),
    ],
)
def test_a_palette_that_is_none_is_refused_with_the_settings(palette, said):
    with pytest.raises(ValueError, match=said):
        EnvConfig(palette=palette)


def test_a_palette_with_fewer_colours_than_things_is_refused():
    with pytest.raises(ValueError, match="4 things need different colours"):
        in_colours(find_task("pick"), ("red", "blue"))
