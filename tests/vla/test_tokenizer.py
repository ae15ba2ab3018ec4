"""The shipped vocabulary: any text, padding, what a window loses, and how it was made."""

import json

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from vla.backbones.tokenizer import END, TOKENIZER_PATH, VOCABULARY_SIZE, NanoTokenizer, listed_words, train_tokenizer


@settings(deadline=None)
@given(st.text(max_size=40))
@example("<s> put the <pad> into the </s>, <mask>")
@example("xylophone" * 500)
@example("")
def test_any_text_tokenises_and_comes_back(text):
    tokenizer = NanoTokenizer()
    normalised = Tokenizer.from_file(str(TOKENIZER_PATH)).normalizer.normalize_str(text)
    ids, mask = tokenizer.encode([text])
    assert mask.all() and ids.max() < VOCABULARY_SIZE
    assert tokenizer.decode(ids[0]).removeprefix(" ") == normalised.removeprefix(" ")
    special = (tokenizer.pad_id, tokenizer.start_id, tokenizer.end_id)
    assert [each for each in ids[0].tolist() if each in special] == [tokenizer.start_id]


def test_common_words_are_single_entries():
    ids, _ = NanoTokenizer().encode(["put the scarlet button into the blue drawer"])
    assert ids.shape == (1, 9)  # the start and eight words


def test_listed_words_are_one_entry_each_as_far_as_entries_go():
    tokenizer, words = NanoTokenizer(), listed_words()
    assert tokenizer.vocabulary_size == VOCABULARY_SIZE and len(words) == len(set(words)) > 1600
    plain = [word for word in words if word.isalpha()]
    whole = [tokenizer.longest([word]) == 2 for word in plain]
    assert all(whole[:1400]) and sum(whole) > 1450


def test_a_word_that_is_not_listed_begins_as_the_one_that_it_is_made_of():
    tokenizer = NanoTokenizer()
    assert "hammers" not in listed_words()
    (hammer, hammers), mask = tokenizer.encode(["hammer", "hammers"])
    assert hammer[:2].equal(hammers[:2]) and mask.sum(1).tolist() == [2, 3]


def test_case_does_not_matter():
    ids, _ = NanoTokenizer().encode(["Pick up the RED cube", "pick up the red cube"])
    assert ids[0].equal(ids[1])


def test_texts_of_any_length_are_padded_and_stay_whole():
    tokenizer = NanoTokenizer()
    ids, mask = tokenizer.encode(["lift", "put the red cube into the blue bin", ""])
    assert ids.shape == mask.shape == (3, 9)
    assert mask[1].all() and mask[2].tolist() == [True] + [False] * 8
    assert (ids[:, 0] == tokenizer.start_id).all()
    assert (ids[~mask] == tokenizer.pad_id).all()


def test_what_is_ended_has_an_end_before_the_padding():
    tokenizer = NanoTokenizer()
    texts = ["yes", "it is behind the red cube", ""]
    ids, mask = tokenizer.encode(texts, ended=True)
    plain, real = tokenizer.encode(texts)
    assert mask.sum(1).tolist() == [3, 8, 2] == (real.sum(1) + 1).tolist()
    for row, bare, n in zip(ids, plain, mask.sum(1).tolist(), strict=True):
        assert row[: n - 1].equal(bare[: n - 1]) and row[n - 1] == tokenizer.end_id
    assert (ids[~mask] == tokenizer.pad_id).all()
    assert [tokenizer.decode(row) for row in ids] == texts


def test_nothing_is_told_after_the_end():
    tokenizer = NanoTokenizer()
    ids = tokenizer.encode(["no"], ended=True)[0][0].tolist() + tokenizer.encode(["more"])[0][0].tolist()
    assert tokenizer.decode(ids) == "no"
    assert tokenizer.decode([]) == tokenizer.decode([tokenizer.start_id, tokenizer.pad_id]) == ""


@pytest.mark.parametrize("ids", [[-1], [3, VOCABULARY_SIZE], torch.zeros(2, 2, dtype=torch.long)])
def test_ids_that_mean_nothing_are_refused(ids):
    with pytest.raises(ValueError, match="expected one row of ids in 0 … 2047, got"):
        NanoTokenizer().decode(ids)


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
    assert train_tokenizer().to_str(pretty=True) == TOKENIZER_PATH.read_text(encoding="utf-8")


@pytest.mark.parametrize("texts", [[], "pick up the cube"])
def test_not_a_list_of_texts_is_refused(texts):
    with pytest.raises(ValueError, match="expected a non-empty list of texts"):
        NanoTokenizer().encode(texts)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.json"):
        NanoTokenizer(tmp_path / "gone.json")


def test_a_file_without_an_end_is_refused(tmp_path):
    content = json.loads(TOKENIZER_PATH.read_text(encoding="utf-8"))
    content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] != END]
    content["model"]["vocab"]["<end>"] = content["model"]["vocab"].pop(END)
    (tmp_path / "old.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="expected a tokenizer with the tokens <pad>, <s>, </s>, got one without </s>"):
        NanoTokenizer(tmp_path / "old.json")
