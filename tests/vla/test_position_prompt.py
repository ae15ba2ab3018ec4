"""The frame around the picture: what it adds, where, and what learns."""

import torch

from vla.backbones.position_prompt import PositionPrompt


def test_the_middle_stays_as_it_is_and_the_frame_is_a_mixture():
    prompt = PositionPrompt((56, 112))
    images = torch.rand(2, 3, 3, 56, 112)
    framed = prompt(images)
    inside = (..., slice(5, -5), slice(10, -10))
    assert framed[inside].equal(images[inside])
    outside = torch.ones(56, 112, dtype=torch.bool)
    outside[5:-5, 10:-10] = False
    wanted = 0.95 * images + 0.05 * prompt.prompt
    torch.testing.assert_close(framed[..., outside], wanted[..., outside])


def test_it_begins_as_a_pair_of_axes():
    red, green, blue = PositionPrompt((40, 60)).prompt.detach()
    assert red[0].equal(red[-1]) and (red[0].diff() > 0).all() and red[0, 0] == 0 and red[0, -1] == 1
    assert green[:, 0].equal(green[:, -1]) and (green[:, 0].diff() > 0).all() and green[-1, 0] == 1
    assert not blue.any()


def test_what_is_framed_alone_learns():
    prompt = PositionPrompt((34, 34))
    prompt(torch.rand(1, 3, 34, 34)).sum().backward()
    gradient = prompt.prompt.grad
    assert (gradient[:, prompt.frame] > 0).all() and not gradient[:, ~prompt.frame].any()
    assert list(prompt.state_dict()) == ["prompt"]
