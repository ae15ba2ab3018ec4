"""The shipped vocabulary: any text, padding, truncation, and how it was made."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from vla.backbones.tokenizer import PAD, START, TOKENIZER_PATH, VOCABULARY_SIZE, NanoTokenizer, train_tokenizer


@given(st.text(max_size=40))
def test_any_text_tokenises_and_comes_back(text):
    shipped = Tokenizer.from_file(str(TOKENIZER_PATH))
    normalised = shipped.normalizer.normalize_str(text)
    ids, mask = NanoTokenizer(512).encode([text])
    assert mask.all() and ids.max() < VOCABULARY_SIZE
    assert shipped.decode(ids[0].tolist()).removeprefix(" ") == normalised.removeprefix(" ")


def test_common_words_are_single_entries():
    ids, _ = NanoTokenizer(24).encode(["put the red cube into the blue bin"])
    assert ids.shape == (1, 9)  # the start and eight words


def test_case_does_not_matter():
    ids, _ = NanoTokenizer(24).encode(["Pick up the RED cube", "pick up the red cube"])
    assert ids[0].equal(ids[1])


def test_padding_and_truncation():
    tokenizer = NanoTokenizer(6)
    ids, mask = tokenizer.encode(["lift", "put the red cube into the blue bin", ""])
    shipped = Tokenizer.from_file(str(TOKENIZER_PATH))
    assert ids.shape == mask.shape == (3, 6)
    assert mask[1].all() and mask[2].tolist() == [True] + [False] * 5
    assert (ids[:, 0] == shipped.token_to_id(START)).all()
    assert (ids[~mask] == shipped.token_to_id(PAD)).all()


def test_training_again_gives_the_shipped_file():
    assert json.loads(train_tokenizer().to_str()) == json.loads(TOKENIZER_PATH.read_text())


@pytest.mark.parametrize("texts", [[], "pick up the cube"])
def test_not_a_list_of_texts_is_refused(texts):
    with pytest.raises(ValueError, match="expected a non-empty list of texts"):
        NanoTokenizer(24).encode(texts)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.json"):
        NanoTokenizer(24, tmp_path / "gone.json")
