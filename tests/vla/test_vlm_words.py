"""Prompts are cut by the checkpoint's own tokenizer, and nothing of an instruction is lost unsaid."""

import pytest
from tiny_checkpoints import tiny_checkpoint
from transformers import AutoTokenizer

from vla.backbones.vlm.words import PromptTokenizer
from vla.checkpoint import CheckpointError

PROMPT = "In: What action should the robot take to {instruction}?\nOut:"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_checkpoint(tmp_path_factory.mktemp("words"), "llava")


def test_a_prompt_is_cut_as_the_tokenizer_cuts_it(folder):
    ours, theirs = PromptTokenizer(folder, PROMPT), AutoTokenizer.from_pretrained(folder)
    ids, mask = ours.encode(["lift the red cube", "go"])
    expected = theirs("In: What action should the robot take to lift the red cube?\nOut:")["input_ids"]
    assert ours.opening == expected[:1] == [theirs.bos_token_id]
    assert ids[0][mask[0]].tolist() == expected[1:]
    assert not mask[1].all() and mask[1].sum() == ours.longest(["go"])


def test_a_text_may_begin_after_the_images(folder):
    ours = PromptTokenizer(folder, "{instruction}\n", begins_text=True)
    assert ours.opening == [] and ours.encode(["go"])[0][0, 0] == 1


def test_what_comes_before_the_images_opens_the_sequence(folder):
    ours = PromptTokenizer(folder, "Look: {images}Do {instruction}!")
    theirs = AutoTokenizer.from_pretrained(folder)
    assert ours.opening == theirs("Look: ")["input_ids"]
    assert ours.encode(["it"])[0][0].tolist() == theirs("Do it!", add_special_tokens=False)["input_ids"]


def test_lost_words_are_those_beyond_the_window(folder):
    ours = PromptTokenizer(folder, PROMPT)
    text = "pick up the red cube and then put it into the green bin"
    whole = ours.longest([text])
    assert ours.beyond(text, whole) == ""
    assert ours.beyond(text, whole - 1)  # a part of the prompt's end
    for window in range(whole - 3, 1, -1):
        lost = ours.beyond(text, window)
        assert lost and (text.endswith(lost) or lost in PROMPT)
        if text.endswith(lost):
            assert text[: len(text) - len(lost)][-1:] in ("", " ")
    assert ours.beyond(text, 1) == text


def test_the_fingerprint_tells_prompts_apart(folder):
    prints = {PromptTokenizer(folder, prompt).fingerprint for prompt in (PROMPT, PROMPT, "{instruction}")}
    assert len(prints) == 2


def test_a_tokenizer_without_the_familys_tokens_is_refused(folder):
    with pytest.raises(CheckpointError, match="it lacks <start_of_sight>"):
        PromptTokenizer(folder, PROMPT).wrapping("<start_of_sight>")
