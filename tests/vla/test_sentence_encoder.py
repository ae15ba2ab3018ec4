"""A sentence encoder from a folder: the mean over whole sentences, whatever else is in the batch."""

from pathlib import Path

import pytest
import torch
from sentence_encoders import make_encoder

from vla.sentence_encoder import SentenceEncoder, check_encoder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_encoder(tmp_path_factory.mktemp("encoder"))


def test_vectors_are_means_over_the_tokens_of_whole_sentences(folder):
    encoder = SentenceEncoder(folder)
    texts = ["the red disc left of the blue one", "a disc"]
    both = encoder.embed(texts)
    assert both.shape == (2, encoder.dim) == (2, 16)
    torch.testing.assert_close(both.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(encoder.embed(texts[1:]), both[1:])
    assert not torch.allclose(encoder.embed([texts[0] + " is"])[0], both[0]), "the last word counts"
    tokens = encoder._tokenizer(texts[0], truncation=False, return_tensors="pt")
    with torch.no_grad():
        hidden = encoder._model(**tokens).last_hidden_state[0]
    torch.testing.assert_close(torch.nn.functional.normalize(hidden.mean(dim=0), dim=0), both[0])


def test_other_weights_are_another_teacher(folder, tmp_path):
    assert SentenceEncoder(folder).fingerprint == SentenceEncoder(folder).fingerprint
    other = make_encoder(tmp_path / "other", seed=1)
    assert SentenceEncoder(other).fingerprint != SentenceEncoder(folder).fingerprint


def test_a_sentence_that_does_not_fit_is_refused(tmp_path):
    encoder = SentenceEncoder(make_encoder(tmp_path, window=4))
    with pytest.raises(ValueError, match=r"at most 4 tokens .* got 'the red disc is left'"):
        encoder.embed(["a disc", "the red disc is left"])


@pytest.mark.parametrize("name", ["/nowhere/at/all", "a/b/c", "../encoder"])
def test_a_folder_that_is_not_there_is_refused_at_once(name):
    with pytest.raises(ValueError, match="there is no such folder"):
        check_encoder(Path(name))


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"it has no config\.json"):
        check_encoder(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    check_encoder(tmp_path)
    with pytest.raises(ValueError, match="expected a sentence encoder of transformers at"):
        SentenceEncoder(tmp_path)


def test_what_may_be_an_id_on_the_hub_is_left_to_it():
    check_encoder(Path("sentence-transformers/all-MiniLM-L6-v2"))
