"""Encoders of pictures as teachers: what transformers itself computes, and what is no such encoder."""

import pytest
import torch
from picture_encoders import KINDS, make_picture_encoder
from sentence_encoders import make_encoder
from tiny_checkpoints import MEAN, STD
from transformers import AutoModel, AutoTokenizer

from vla.checkpoint import CheckpointError
from vla.picture_encoder import PictureEncoder


def pictures(n=3, side_px=56):
    """Of whole levels, so that nothing is rounded, and of the encoder's size."""
    return torch.randint(0, 256, (n, 3, side_px, side_px), generator=torch.Generator().manual_seed(0)) / 255


def as_they_are_fed(images):
    mean, std = (torch.tensor(x)[:, None, None] for x in (MEAN, STD))
    return (images - mean) / std


def unit(x):
    return x / x.norm(dim=-1, keepdim=True)


@pytest.mark.parametrize("kind", KINDS)
def test_embeddings_and_cells_are_those_of_transformers(tmp_path, kind):
    folder = make_picture_encoder(tmp_path, kind)
    encoder, model, images = PictureEncoder(folder), AutoModel.from_pretrained(folder).eval(), pictures()
    fed = as_they_are_fed(images)
    with torch.no_grad():
        seen = (model.vision_model if kind == "clip" else model)(pixel_values=fed)
        pooled = model.visual_projection(seen.pooler_output) if kind == "clip" else seen.pooler_output
    torch.testing.assert_close(encoder.embed(images), unit(pooled), rtol=1e-4, atol=1e-5)
    patches = seen.last_hidden_state[:, 0 if kind == "siglip" else 1 :].unflatten(1, (4, 4))
    quarters = [patches[:, i : i + 2, j : j + 2].mean(dim=(1, 2)) for i in (0, 2) for j in (0, 2)]
    torch.testing.assert_close(encoder.cells(images, 2), torch.stack(quarters, dim=1), rtol=1e-4, atol=1e-5)
    assert (encoder.dim, encoder.cell_dim, encoder.reads) == (24 if kind == "clip" else 48, 48, kind == "clip")


def test_texts_lie_in_the_space_of_the_pictures(tmp_path):
    folder = make_picture_encoder(tmp_path)
    encoder, model = PictureEncoder(folder), AutoModel.from_pretrained(folder).eval()
    tokens = AutoTokenizer.from_pretrained(folder)(["pick up the red cube"], return_tensors="pt")
    with torch.no_grad():
        pooled = model.text_model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).pooler_output
        expected = unit(model.text_projection(pooled))
    torch.testing.assert_close(encoder.embed_texts(["pick up the red cube"]), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="expected sentences of at most 64 tokens"):
        encoder.embed_texts(["pick up the red cube " * 40])


def test_other_weights_have_another_fingerprint(tmp_path):
    names = [PictureEncoder(make_picture_encoder(tmp_path / str(s), "dinov2", seed=s)).fingerprint for s in (0, 0, 1)]
    assert names[0] == names[1] != names[2]


def test_what_is_no_encoder_of_pictures_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"it has no config\.json"):
        PictureEncoder(tmp_path)
    with pytest.raises(CheckpointError, match=r"expected a vision encoder in .*, got a bert"):
        PictureEncoder(make_encoder(tmp_path / "words"))
    folder = make_picture_encoder(tmp_path / "dino", "dinov2")
    with pytest.raises(TypeError, match="has no embedding of texts"):
        PictureEncoder(folder).embed_texts(["pick"])
    torch.save(AutoModel.from_pretrained(folder).state_dict(), folder / "pytorch_model.bin")  # a pickle may hold code
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="expected the weights of a dinov2"):
        PictureEncoder(folder)
