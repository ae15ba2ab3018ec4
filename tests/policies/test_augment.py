"""Augmentation: repeatable, cut-invariant, and no colour takes another's name."""

import colorsys

import pytest
import torch

from policies.training.augment import LUMA, AugmentConfig, Disturbance, shift_with_edge_padding


def test_the_same_seed_and_step_disturb_alike():
    images = torch.rand(4, 3, 8, 8)
    draws = [Disturbance.draw(AugmentConfig(), 4, 7, step).apply(images) for step in (3, 3, 4)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    assert not torch.equal(draws[0], Disturbance.draw(AugmentConfig(), 4, 8, 3).apply(images))


def test_nothing_asked_is_nothing_done():
    off = AugmentConfig(shift_fraction=0, brightness=0, contrast=0, saturation=0, channel_gain=0)
    images = torch.rand(3, 3, 8, 10)
    assert torch.allclose(Disturbance.draw(off, 3, 0, 0).apply(images), images, atol=1e-6)


def test_the_shift_repeats_edge_pixels():
    image = torch.arange(12.0).reshape(1, 1, 3, 4)
    moved = shift_with_edge_padding(image, torch.tensor([[1, -2]]))
    expected = torch.tensor([[2.0, 3, 3, 3], [2, 3, 3, 3], [6, 7, 7, 7]])
    assert torch.equal(moved[0, 0], expected)


def test_the_shift_agrees_with_pad_and_crop():
    images = torch.rand(6, 3, 12, 12)
    offsets = torch.tensor([[0, 0], [3, -3], [-2, 1], [1, 3], [-3, -3], [2, 0]])
    padded = torch.nn.functional.pad(images, (3, 3, 3, 3), mode="replicate")
    expected = torch.stack(
        [p[:, 3 - r : 15 - r, 3 - c : 15 - c] for p, (r, c) in zip(padded, offsets.tolist(), strict=True)]
    )
    assert torch.equal(shift_with_edge_padding(images, offsets), expected)


def test_the_one_product_is_brightness_contrast_and_saturation_in_turn():
    images = torch.rand(5, 3, 6, 6) * 0.4 + 0.3
    drawn = Disturbance.draw(AugmentConfig(shift_fraction=0), 5, 0, 0)
    luma = torch.tensor(LUMA)[:, None, None]
    for image, got, k in zip(images, drawn.apply(images), range(5), strict=True):
        expected = image * drawn.brightness[k] * drawn.channel_gain[k][:, None, None]
        mean = (expected * luma).sum(0).mean()
        expected = mean + (expected - mean) * drawn.contrast[k]
        grey = (expected * luma).sum(0)
        expected = (grey + (expected - grey) * drawn.saturation[k]).clamp(0, 1)
        torch.testing.assert_close(got, expected)


def test_colours_keep_their_hue_and_stay_in_range():
    named = [(0.85, 0.1, 0.1), (0.1, 0.75, 0.1), (0.1, 0.2, 0.85), (0.9, 0.85, 0.1), (0.6, 0.1, 0.75), (0.9, 0.5, 0.1)]
    n = 200
    for colour in named:
        images = torch.full((n, 3, 8, 8), 0.6)
        images[:, :, 2:5, 2:5] = torch.tensor(colour)[:, None, None]
        off = AugmentConfig(shift_fraction=0)
        disturbed = Disturbance.draw(off, n, 0, 0).apply(images)
        assert disturbed.min() >= 0 and disturbed.max() <= 1
        hue = colorsys.rgb_to_hsv(*colour)[0]
        for pixel in disturbed[:, :, 3, 3].tolist():
            turn = abs(colorsys.rgb_to_hsv(*pixel)[0] - hue)
            assert min(turn, 1 - turn) < 12 / 360  # orange and yellow, the closest pair, lie 24° apart


def test_amounts_out_of_range_are_refused():
    with pytest.raises(ValueError, match="shift_fraction"):
        AugmentConfig(shift_fraction=0.5)
    with pytest.raises(ValueError, match="contrast"):
        AugmentConfig(contrast=1.0)
