"""Sentences about motions: there and back, true of what they are said of, false of its opposite."""

from dataclasses import replace
from itertools import product

import pytest
import torch
from point_mass import point_mass_embodiment

from envs.control.modes import GRIPPER as GRIPPER_ACTION
from envs.control.modes import MODES
from envs.control.servo import ServoConfig
from envs.specs import Dimension, EmbodimentSpec
from policies.narration import GRIPPER, Claims, Narrator

JOINTS = tuple(Dimension(name=f"joint{i}", unit="rad", low=-3, high=3, frame="joint") for i in range(6))


def arm(control="delta_pose"):
    tool = tuple(Dimension(name=f"tool_{axis}", unit="m", low=-1.5, high=1.5) for axis in "xyz")
    gap = Dimension(name="gripper_gap", unit="m", low=0.0, high=0.08, frame="gripper")
    action = (*MODES[control].dimensions(ServoConfig(), JOINTS), GRIPPER_ACTION)
    return EmbodimentSpec(name="arm", control_rate_hz=20.0, state=(*tool, gap), action=action, cameras=())


def chunk(move_mm, gripper, h=8):
    """Every step moves the tool by ``move_mm``."""
    actions = torch.zeros(1, h, 7)
    actions[..., :3] = torch.tensor(move_mm) / 1e3
    actions[..., 6] = torch.as_tensor(gripper, dtype=torch.float32)
    return actions


CLOSES = [0.0] * 5 + [1.0] * 3


@pytest.mark.parametrize(
    ("move_mm", "gripper", "sentence"),
    [
        ((10.0, 0.0, 0.0), 0.0, "moving forward, gripper open"),
        ((-10.0, 0.5, 0.0), 1.0, "moving backward, gripper closed"),
        ((0.0, 8.0, -8.0), CLOSES, "moving left and down, gripper closing"),
        ((5.0, -5.0, 5.0), [1.0] * 5 + [0.0] * 3, "moving forward, right and up, gripper opening"),
        ((0.3, 0.2, -0.1), CLOSES, "standing, gripper closing"),
    ],
)
def test_sentences_are_what_one_would_say(move_mm, gripper, sentence):
    narrator, actions = Narrator(arm()), chunk(move_mm, gripper)
    assert narrator.sentences[int(narrator.said_of(actions))] == sentence
    assert narrator.planned(actions).bears_out(narrator.heard(sentence)).all()


def test_every_sentence_comes_back_as_what_it_claims():
    narrator = Narrator(arm())
    claims = [Claims(directions=d, gripper=g) for d, g in product(product((0, 1, -1), repeat=3), GRIPPER)]
    assert len(set(narrator.sentences)) == len(claims) == 108
    for each in claims:
        sentence = narrator.spoken(each)
        assert narrator.heard(sentence) == each and sentence in narrator.sentences
        assert narrator.heard(f"  {sentence.upper().replace(',', ' , ')} ") == each
    for nonsense in ("", "moving", "moving up and left, gripper open", "standing", "gripper open", "going left"):
        assert narrator.heard(nonsense) is None, "directions have one order, and there is one sentence for each claim"


def random_chunks(n, seed=0):
    source = torch.Generator().manual_seed(seed)
    actions = 0.01 * torch.randn(n, 8, 7, generator=source)
    actions[..., :3] += torch.randn(n, 1, 3, generator=source) * 0.02 * torch.rand(n, 1, 1, generator=source) ** 3
    actions[..., 6] = torch.rand(n, 8, generator=source)
    lasts = torch.randint(1, 9, (n,), generator=source)
    return actions, torch.arange(8) < lasts[:, None]


def test_what_is_said_is_true_and_its_opposite_is_not():
    narrator = Narrator(arm())
    actions, valid = random_chunks(3000)
    motion, said = narrator.planned(actions, valid), narrator.said_of(actions, valid)
    assert len(said.unique()) > 80
    for index in said.unique().tolist():
        claims, about = narrator.heard(narrator.sentences[index]), said == index
        assert motion.bears_out(claims)[about].all()
        for axis in range(3):
            if claims.directions[axis]:
                turned = tuple(-sign if i == axis else sign for i, sign in enumerate(claims.directions))
                assert not motion.bears_out(replace(claims, directions=turned))[about].any()


def test_what_comes_after_the_last_valid_action_does_not_matter():
    narrator = Narrator(arm())
    actions, valid = random_chunks(200)
    other = torch.where(valid[..., None], actions, torch.randn_like(actions))
    assert narrator.said_of(actions, valid).equal(narrator.said_of(other, valid))
    shorter = actions[valid.sum(dim=1) == 3]
    assert narrator.said_of(shorter[:, :3]).equal(
        narrator.said_of(shorter, torch.arange(8).expand(len(shorter), 8) < 3)
    )


def borne_out(narrator, actions, *sentences):
    return [bool(narrator.planned(actions).bears_out(narrator.heard(sentence))) for sentence in sentences]


@pytest.mark.parametrize("degrees", [62, 66, 69, 75])
def test_near_the_border_of_a_direction_either_sentence_is_right(degrees):
    angle = torch.tensor(degrees / 180 * torch.pi)
    actions = chunk((10 * angle.sin(), 10 * angle.cos(), 0.0), 0.0)
    said = ("moving forward, gripper open", "moving forward and left, gripper open", "moving left, gripper open")
    assert borne_out(Narrator(arm()), actions, *said) == [True, True, False]


def test_between_standing_and_moving_and_between_open_and_closed_either_is_right():
    narrator = Narrator(arm())
    said = ("standing, gripper open", "moving up, gripper open", "moving up, gripper closed")
    for mm, expected in ((0.4, [1, 0, 0]), (0.7, [1, 1, 0]), (1.4, [1, 1, 0]), (1.6, [0, 1, 0])):
        assert borne_out(narrator, chunk((0.0, 0.0, mm), 0.0), *said) == [bool(x) for x in expected], mm
    assert borne_out(narrator, chunk((0.0, 0.0, 1.4), 0.5), *said) == [True, True, True]
    words = [f"standing, gripper {word}" for word in GRIPPER]
    for command, expected in (
        ([0.0] * 7 + [1.0], [1, 0, 0, 1]),  # in the last step: not yet, or it is just closing
        ([1.0] + [0.0] * 7, [1, 0, 1, 0]),
        (CLOSES, [0, 0, 0, 1]),
        (0.36, [1, 1, 1, 1]),
    ):
        assert borne_out(narrator, chunk((0.0, 0.0, 0.0), command), *words) == [bool(x) for x in expected], command


def test_deeds_are_told_from_the_states_before_and_after():
    narrator = Narrator(arm())
    before = torch.tensor([[0.1, 0.2, 0.3, 0.08]])
    for change, steps, right, wrong in (
        ([0.0, 0.04, 0.0, 0.0], 8, "moving left, gripper open", "moving left, gripper closing"),
        ([0.0, 0.0, -0.04, -0.05], 8, "moving down, gripper closing", "moving up, gripper closing"),
        ([0.0, 0.001, 0.0, -0.03], 8, "standing, gripper closed", "standing, gripper opening"),
        ([0.0, 0.004, 0.0, 0.0], 2, "moving left, gripper open", "standing, gripper open"),
    ):
        motion = narrator.done(before, before + torch.tensor([change]), torch.tensor([steps]))
        assert bool(motion.bears_out(narrator.heard(right))) and not bool(motion.bears_out(narrator.heard(wrong))), (
            right
        )
    back = narrator.done(before - torch.tensor([[0.0, 0.0, 0.0, 0.06]]), before, torch.tensor([8]))
    assert bool(back.bears_out(narrator.heard("standing, gripper opening")))


def test_a_gripper_that_no_state_shows_is_not_judged():
    blind = arm()
    narrator = Narrator(replace(blind, state=blind.state[:3]))
    motion = narrator.done(torch.zeros(1, 3), torch.tensor([[0.0, 0.0, 0.04]]), torch.tensor([8]))
    assert motion.gripper is None and bool(motion.bears_out(narrator.heard("moving up, gripper closing")))
    nowhere = Narrator(replace(blind, state=blind.state[3:]))
    assert narrator.witnesses and not nowhere.witnesses
    with pytest.raises(ValueError, match="expected a state with the tool's position in metres"):
        nowhere.done(torch.zeros(1, 1), torch.zeros(1, 1), torch.tensor([8]))


@pytest.mark.parametrize("embodiment", [arm("absolute_pose"), arm("joint_position"), point_mass_embodiment()])
def test_robots_whose_actions_are_no_changes_in_metres_are_refused(embodiment):
    with pytest.raises(ValueError, match=rf"control mode delta_pose do, .*; {embodiment.name} has .*1"):
        Narrator(embodiment)


def test_two_grippers_are_refused():
    two = arm()
    with pytest.raises(ValueError, match="with one gripper at most; arm has dx \\(change in m, world\\)"):
        Narrator(replace(two, action=(*two.action, replace(two.action[-1], name="other"))))
