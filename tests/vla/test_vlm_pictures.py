"""Pictures become what the checkpoints' own image processors make of them."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_checkpoints import MEAN, PROCESSORS, STD
from transformers import AutoImageProcessor

from vla.backbones.vlm.pictures import PictureNumbers, patchify, pillow_resize

FILTERS = {1: Image.Resampling.LANCZOS, 2: Image.Resampling.BILINEAR, 3: Image.Resampling.BICUBIC}
LEVEL = 1 / 255 / min(STD)


def picture(height, width, seed=0):
    """Smooth shapes with hard edges."""
    y, x = np.mgrid[:height, :width]
    rng = np.random.default_rng(seed)
    image = np.stack([127 + 90 * np.sin(x / 7 + k) * np.cos(y / (5 + k)) for k in range(3)], axis=-1)
    image[height // 4 : height // 2, width // 3 :] = rng.integers(0, 256, 3)
    return image.clip(0, 255).astype(np.uint8)


def as_input(image):
    return torch.from_numpy(image).permute(2, 0, 1).float() / 255


@pytest.mark.parametrize("resample", FILTERS)
@pytest.mark.parametrize("size", [(96, 64), (20, 30), (48, 112)])
def test_resizing_is_pillows(resample, size):
    image = picture(48, 64)
    expected = np.asarray(Image.fromarray(image).resize((size[1], size[0]), FILTERS[resample])).astype(float)
    ours = pillow_resize(torch.from_numpy(image).permute(2, 0, 1).float(), size, resample).permute(1, 2, 0).numpy()
    assert ours.shape == expected.shape
    difference = abs(ours - expected)
    assert difference.max() <= 1 and difference.mean() < 0.03  # Pillow rounds its weights, which tips halves


@pytest.mark.parametrize("family", ["smolvlm", "paligemma", "internvl", "gemma3", "llava-clip"])
def test_inputs_are_those_of_the_image_processor(tmp_path, family):
    kind, numbers = PROCESSORS[family]
    content = {"image_processor_type": kind, "image_mean": MEAN, "image_std": STD, **numbers}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(content))
    processor = AutoImageProcessor.from_pretrained(tmp_path)
    image = picture(90, 90)
    expected = processor(images=[Image.fromarray(image)], return_tensors="pt")["pixel_values"]
    side = expected.shape[-1]
    ours = PictureNumbers.from_dict(content).prepare(as_input(image), (side, side))
    difference = (ours - expected.reshape(3, side, side)).abs()
    assert difference.max() <= 2.01 * LEVEL and difference.mean() < 0.02 * LEVEL


def test_patches_are_those_of_the_image_processor(tmp_path):
    kind, numbers = PROCESSORS["qwen2_vl"]
    content = {"image_processor_type": kind, "image_mean": MEAN, "image_std": STD, **numbers}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(content))
    found = AutoImageProcessor.from_pretrained(tmp_path)(
        images=[Image.fromarray(picture(84, 112, seed)) for seed in (0, 1)], return_tensors="pt"
    )
    images = torch.stack([as_input(picture(84, 112, seed)) for seed in (0, 1)])
    patches = patchify(PictureNumbers.from_dict(content).prepare(images, (84, 112)), 14, 2, 2)
    assert found["image_grid_thw"].tolist() == [[1, 6, 8]] * 2
    torch.testing.assert_close(patches, found["pixel_values"], atol=1e-5, rtol=1e-5)


def test_batches_and_single_pictures_give_the_same():
    numbers = PictureNumbers(mean=(0.5, 0.5, 0.5), std=(0.5, 0.4, 0.3), resample=3)
    images = torch.rand(2, 3, 3, 20, 30)
    together = numbers.prepare(images, (28, 28))
    assert together.shape == (2, 3, 3, 28, 28)
    assert together[1, 2].equal(numbers.prepare(images[1, 2], (28, 28)))
    assert PictureNumbers.from_dict(numbers.to_dict()) == numbers


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (torch.full((3, 8, 8), 255.0), r"expected pictures in \[0, 1\], got numbers from 255 to 255"),
        (torch.full((3, 8, 8), -1.0), "got numbers from -1 to -1"),
        (torch.full((3, 8, 8), float("nan")), "got numbers from nan to nan"),
    ],
)
def test_numbers_that_are_no_picture_are_refused(picture, message):
    with pytest.raises(ValueError, match=message):
        PictureNumbers(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), resample=3).prepare(picture, (8, 8))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resample": 7}, "expected a resampling filter out of"),
        ({"image_std": [0, 1, 1]}, "three positive spreads"),
        ({"image_mean": [0.5]}, "expected three means"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        PictureNumbers.from_dict({"image_mean": MEAN, "image_std": STD, "resample": 3, **change})
    with pytest.raises(ValueError, match=r"it lacks \['image_std'\]"):
        PictureNumbers.from_dict({"image_mean": MEAN, "resample": 3})
