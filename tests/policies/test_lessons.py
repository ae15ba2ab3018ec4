"""Lessons of a sentence encoder: what is said is gathered once, the teacher heard once, and what it says learned."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from discs import ASKING, PHRASES, DiscScenes, result, run, tiny_backbone, tiny_pretraining
from sentence_encoders import make_encoder
from stopping import stopped_before

from policies.pretraining.lessons import said_of, take_lessons
from policies.pretraining.trainer import Teaching, prepare
from policies.training.checkpoint import CheckpointError
from policies.training.metrics import read_metrics
from vla.objectives.objective import ObjectiveWeights
from vla.objectives.saving import load_objectives
from vla.sentence_encoder import SentenceEncoder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_encoder(tmp_path_factory.mktemp("encoder"))


class Counting(SentenceEncoder):
    heard = 0

    def embed(self, sentences):
        self.heard += len(sentences)
        return super().embed(sentences)


def lessons(encoder, keep, count=20, more=("a red disc",)):
    return take_lessons(encoder, DiscScenes(), count, more, keep, show_progress=False)


def test_what_is_said_is_gathered_until_there_is_no_more():
    scenes = DiscScenes()
    said = said_of(scenes, "train", 1000, ["a red disc"])
    assert said[0] == "a red disc" and len(said) == len(set(said)) == 1 + 2 + 2 + 3
    assert {PHRASES["train"].format("red"), *ASKING["train"]} < set(said)
    assert said == said_of(DiscScenes(), "train", 1000, ["a red disc"])
    assert said_of(scenes, "train", 4, ["a red disc"]) == said[:4]
    assert {request.first_seed >= 2**31 for request, _ in scenes.asked} == {True}
    assert not set(said) & set(said_of(scenes, "held_out", 1000))


def test_the_teacher_is_heard_once(folder, tmp_path):
    encoder = Counting(folder)
    taught = lessons(encoder, tmp_path)
    sentences = (*taught.sentences, *taught.held_out)
    assert encoder.heard == len(sentences) == len(taught.embedding) + len(taught.held_out_embedding)
    for sentence, vector in zip(sentences, [*taught.embedding, *taught.held_out_embedding], strict=True):
        torch.testing.assert_close(encoder.embed([sentence])[0], vector)
    encoder.heard = 0
    again = lessons(encoder, tmp_path)
    assert encoder.heard == 0 and torch.equal(again.embedding, taught.embedding)
    assert again.fingerprint == taught.fingerprint
    other = lessons(encoder, tmp_path, more=())
    assert encoder.heard > 0 and other.fingerprint != taught.fingerprint


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_damaged_lessons_are_taken_again(folder, tmp_path, suffix):
    encoder = Counting(folder)
    taught = lessons(encoder, tmp_path)
    (path,) = tmp_path.glob(f"*{suffix}")
    path.write_bytes(path.read_bytes()[:-3])
    encoder.heard = 0
    again = lessons(encoder, tmp_path)
    assert encoder.heard > 0
    torch.testing.assert_close(again.embedding, taught.embedding)


def test_a_run_with_a_teacher_goes_on_as_if_it_never_stopped(folder, tmp_path):
    from policies.pretraining.learner import PretrainLearner

    teaching = Teaching(teacher=folder, sentences=("a red disc",))
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    summary = run(whole, teaching=teaching, lessons=4)
    assert -1 <= summary.held_out["teacher_cosine"] <= 1
    assert read_metrics(whole)[0]["teacher"] > 0
    with stopped_before(7, PretrainLearner):
        run(stopped, teaching=teaching, lessons=4)
    run(stopped, teaching=teaching, lessons=4, resume=True)
    assert result(stopped) == result(whole)
    assert "text_teacher" in load_objectives(summary.backbone).parts
    with pytest.raises(CheckpointError, match=r"teacher: '.*' then, None now"):
        run(stopped, lessons=4, resume=True)


def test_what_is_taught_is_learned(folder, tmp_path):
    weights = ObjectiveWeights(caption=0, answer=0, matching=0)
    fields = {"weights": weights, "lr": 5e-3, "ema_decay": 0.9}
    fresh = run(tmp_path / "fresh", teaching=Teaching(teacher=folder), steps=1, **fields)
    learned = run(tmp_path / "learned", teaching=Teaching(teacher=folder), steps=25, save_every=25, **fields)
    assert learned.held_out["teacher_cosine"] > fresh.held_out["teacher_cosine"] + 0.2


def test_a_teacher_that_teaches_nothing_is_refused_before_any_work(folder, tmp_path):
    scenes = DiscScenes()
    config = tiny_pretraining(weights=replace(ObjectiveWeights(), teacher=0))
    with pytest.raises(ValueError, match="a teacher needs a weight above 0"):
        prepare(tmp_path, config, tiny_backbone(), scenes, Teaching(teacher=folder))
    with pytest.raises(ValueError, match="there is no such folder"):
        prepare(tmp_path, tiny_pretraining(), tiny_backbone(), scenes, Teaching(teacher=Path("/nowhere/at/all")))
    assert not scenes.asked
