"""Image-text towers: what transformers itself gives, and VLM-RM's formula."""

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_rewards import TOWER_SIDE_PX, tiny_towers
from torch.nn import functional
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

from envs.specs import image_key
from rl.rewards.clip import GoalSimilarity, projected_similarity
from rl.rewards.nano_towers import BackboneTowers
from vla.checkpoint import CheckpointError
from vla.objectives.matching import Matching
from vla.objectives.material import Material, Words
from vla.objectives.saving import load_objectives
from vla.shipped import FOLDER
from vla.towers import TransformersTowers

TEXTS = ["put the blue block into the green bin", "lift it"]


@pytest.fixture(scope="module", params=["clip", "siglip"])
def checkpoint(request, tmp_path_factory):
    return tiny_towers(tmp_path_factory.mktemp(request.param), request.param)


def pictures(height, width):
    """Smooth colours with hard edges, uint8 ``(3, height, width, 3)``."""
    y, x = np.mgrid[:height, :width]
    waves = [[127 + 90 * np.sin(x / 9 + k + c) * np.cos(y / (6 + k)) for c in range(3)] for k in range(3)]
    images = np.stack([np.stack(each, axis=-1) for each in waves]).clip(0, 255).astype(np.uint8)
    images[:, height // 4 : height // 2, width // 3 :] = 200
    return images


@torch.no_grad()
def native(folder, images, texts):
    """The same by transformers' own processor, tokenizer and model."""
    model = AutoModel.from_pretrained(folder).eval()
    pixels = AutoImageProcessor.from_pretrained(folder)(
        [Image.fromarray(image) for image in images], return_tensors="pt"
    )
    length = {"padding": "max_length", "max_length": 24} if model.config.model_type == "siglip" else {"padding": True}
    tokens = AutoTokenizer.from_pretrained(folder)(texts, return_tensors="pt", **length)
    if model.config.model_type == "siglip":
        tokens = {"input_ids": tokens["input_ids"]}
    seen, read = model.get_image_features(**pixels), model.get_text_features(**tokens)
    return [functional.normalize(getattr(each, "pooler_output", each), dim=-1) for each in (seen, read)]


@pytest.mark.parametrize("size_px", [(TOWER_SIDE_PX, TOWER_SIDE_PX), (75, 100), (40, 40)])
def test_vectors_are_those_of_transformers(checkpoint, size_px):
    towers, images = TransformersTowers(str(checkpoint)), pictures(*size_px)
    seen, read = native(checkpoint, images, TEXTS)
    ours = towers.embed_images(torch.from_numpy(images)[:, None])
    # Pillow rounds the weights of its resizing, which tips single levels of a byte.
    exact = {"atol": 1e-5, "rtol": 0} if size_px[0] == TOWER_SIDE_PX else {"atol": 2e-4, "rtol": 0}
    torch.testing.assert_close(ours, seen, **exact)
    torch.testing.assert_close(towers.embed_texts(TEXTS), read, atol=1e-5, rtol=0)


def test_several_views_share_a_vector(checkpoint):
    towers, images = TransformersTowers(str(checkpoint)), torch.from_numpy(pictures(56, 56))
    apart = torch.stack([towers.embed_images(images[i][None, None])[0] for i in (0, 1)])
    together = towers.embed_images(images[None, :2])[0]
    torch.testing.assert_close(together, functional.normalize(apart.mean(dim=0), dim=0), atol=1e-5, rtol=0)


def test_texts_beyond_the_window_are_refused(checkpoint):
    with pytest.raises(ValueError, match="at most 24 tokens, got"):
        TransformersTowers(str(checkpoint)).embed_texts(["lift it", "q w e r t z u i o p " * 4])


def test_a_folder_without_towers_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="it has no config"):
        TransformersTowers(str(tmp_path))


@torch.no_grad()
def test_the_packages_own_towers_are_what_matching_learned():
    """Whatever the state of the robot is, which they do not see."""
    towers, images = BackboneTowers(), torch.from_numpy(np.stack([pictures(64, 64)[:2], pictures(64, 64)[1:]]))
    objectives = load_objectives(FOLDER)
    backbone, matching = objectives.backbone, objectives.get(Matching)
    ids, mask = backbone.tokenize(TEXTS)
    words = Words(ids=ids, mask=mask)
    nothing = Words(ids=ids[:1, :1], mask=mask[:1, :1])
    shown = Material(
        images=(images.permute(0, 1, 4, 2, 3).float() / 255)[:, None],
        view_mask=torch.ones(2, 1, 2, dtype=torch.bool),
        state=torch.randn(2, 17),
        nothing=nothing,
    )
    torch.testing.assert_close(towers.embed_images(images), matching.see(backbone, shown), atol=1e-5, rtol=0)
    torch.testing.assert_close(towers.embed_texts(TEXTS), matching.read(backbone, words), atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="sees through"):
        GoalSimilarity(towers, ["front"])


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_the_projected_score_is_vlm_rms(alpha):
    """Against its own form: 1 − ½‖(s − g)(αP + (1 − α)I)‖², P projecting on the line, in float64 and one by one."""
    rng = np.random.default_rng(0)
    seen, goal, baseline = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in rng.standard_normal((3, 4, 9)))
    ours = projected_similarity(*(torch.from_numpy(x) for x in (seen, goal, baseline)), alpha)
    for s, g, b, value in zip(seen, goal, baseline, ours.tolist(), strict=True):
        line = g - b
        matrix = alpha * np.outer(line, line) / (line @ line) + (1 - alpha) * np.eye(9)
        assert value == pytest.approx(1 - 0.5 * np.sum(((s - g) @ matrix) ** 2), abs=1e-12)
        if alpha == 0:
            assert value == pytest.approx(s @ g, abs=1e-12)
    same = torch.from_numpy(goal)
    with pytest.raises(ValueError, match="the same vector"):
        projected_similarity(same, same, same, alpha)


def test_scores_compare_pictures_with_the_words_of_each_goal(checkpoint):
    towers, images = TransformersTowers(str(checkpoint)), torch.from_numpy(pictures(56, 56))
    observation, goals = {image_key("front"): images}, [TEXTS[0], TEXTS[1], TEXTS[0]]
    seen, read = towers.embed_images(images[:, None]), towers.embed_texts(TEXTS)
    cosine = GoalSimilarity(towers, ["front"])(observation, goals)
    torch.testing.assert_close(cosine, (seen * read[[0, 1, 0]]).sum(dim=1))
    flat = GoalSimilarity(towers, ["front"], baseline="a robot", alpha=0.0)(observation, goals)
    torch.testing.assert_close(flat, cosine, atol=1e-5, rtol=0)
    told = GoalSimilarity(towers, ["front"], describe=lambda goal: goal.replace("lift it", TEXTS[0]))
    torch.testing.assert_close(told(observation, goals), (seen * read[[0, 0, 0]]).sum(dim=1))
