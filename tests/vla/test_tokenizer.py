"""The shipped vocabulary: any text, padding, what a window loses, and how it was made."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from vla.backbones.tokenizer import PAD, START, TOKENIZER_PATH, VOCABULARY_SIZE, NanoTokenizer, train_tokenizer


@given(st.text(max_size=40))
def test_any_text_tokenises_and_comes_back(text):
    shipped = Tokenizer.from_file(str(TOKENIZER_PATH))
    normalised = shipped.normalizer.normalize_str(text)
    ids, mask = NanoTokenizer().encode([text])
    assert mask.all() and ids.max() < VOCABULARY_SIZE
    assert shipped.decode(ids[0].tolist()).removeprefix(" ") == normalised.removeprefix(" ")


def test_common_words_are_single_entries():
    ids, _ = NanoTokenizer().encode(["put the red cube into the blue bin"])
    assert ids.shape == (1, 9)  # the start and eight words


def test_case_does_not_matter():
    ids, _ = NanoTokenizer().encode(["Pick up the RED cube", "pick up the red cube"])
    assert ids[0].equal(ids[1])


def test_texts_of_any_length_are_padded_and_stay_whole():
    tokenizer = NanoTokenizer()
    ids, mask = tokenizer.encode(["lift", "put the red cube into the blue bin", ""])
    shipped = Tokenizer.from_file(str(TOKENIZER_PATH))
    assert ids.shape == mask.shape == (3, 9)
    assert mask[1].all() and mask[2].tolist() == [True] + [False] * 8
    assert (ids[:, 0] == shipped.token_to_id(START)).all()
    assert (ids[~mask] == shipped.token_to_id(PAD)).all()


def test_different_sentences_differ_however_long_they_are():
    begin = "slide out the drawer; when that is done, stow the {} cube in the drawer; when that is done, "
    texts = [begin.format(colour) + end for colour in ("purple", "red") for end in ("close it", "slide it back in")]
    ids, _ = NanoTokenizer().encode(texts)
    assert len({tuple(row) for row in ids.tolist()}) == 4


@pytest.mark.parametrize(
    ("tokens", "lost"),
    [(1, "put the xylophone, grèy, away"), (3, "xylophone, grèy, away"), (5, "xylophone, grèy, away"), (64, "")],
)
def test_what_a_window_does_not_hold_is_told_in_whole_words(tokens, lost):
    assert NanoTokenizer().beyond("put the xylophone, grèy, away", tokens) == lost


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=60), tokens=st.integers(1, 40))
def test_what_is_told_as_lost_ends_the_text(text, tokens):
    tokenizer = NanoTokenizer()
    lost = tokenizer.beyond(text, tokens)
    assert text.strip().endswith(lost)
    assert bool(lost) <= (tokenizer.longest([text]) > tokens)


def test_training_again_gives_the_shipped_file():
    assert json.loads(train_tokenizer().to_str()) == json.loads(TOKENIZER_PATH.read_text())


@pytest.mark.parametrize("texts", [[], "pick up the cube"])
def test_not_a_list_of_texts_is_refused(texts):
    with pytest.raises(ValueError, match="expected a non-empty list of texts"):
        NanoTokenizer().encode(texts)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.json"):
        NanoTokenizer(tmp_path / "gone.json")
