"""FAST: the transform against scipy's, its vocabulary there and back, and a folder in the published format."""

import copy
import json

import pytest
import torch
from scipy.fft import dct
from tokenizers import ByteLevelBPETokenizer
from tokenizers.trainers import BpeTrainer

from vla.heads.fast import FastCode, cosine_transform
from vla.heads.fast_vocabulary import FastVocabulary
from vla.observation import ActionChunk

HORIZON, ACTION_DIM, SCALE = 16, 7, 10.0


def smooth(count, seed=0):
    """Chunks of low frequencies, the last number a gripper that opens or closes at once."""
    source = torch.Generator().manual_seed(seed)
    time = torch.linspace(0, 1, HORIZON)[None, :, None]
    phase, rate, size = (torch.rand(count, 1, ACTION_DIM, generator=source) for _ in range(3))
    actions = size * torch.sin(6.3 * (phase + rate * time))
    actions[..., -1] = ((phase[..., -1] < time[..., 0]).float() * 2 - 1) * (rate[..., -1] - 0.5).sign()
    return actions


def as_target(actions):
    return ActionChunk(actions=actions, valid=torch.ones(actions.shape[:2], dtype=torch.bool))


@pytest.fixture(scope="module")
def code():
    code = FastCode(256, SCALE, None, horizon=HORIZON, action_dim=ACTION_DIM)
    code.fit(as_target(smooth(1000)))
    return code


@pytest.mark.parametrize("n", [1, 2, 8, 50])
def test_the_transform_is_scipys(n):
    x = torch.randn(n, 3)
    expected = torch.from_numpy(dct(x.double().numpy(), axis=0, norm="ortho")).float()
    torch.testing.assert_close(cosine_transform(n) @ x, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(cosine_transform(n).T @ cosine_transform(n), torch.eye(n), atol=1e-5, rtol=0)


def test_chunks_come_back_within_rounding_and_in_fewer_tokens(code):
    actions = smooth(100, seed=1)
    ids = code.encode(actions)
    back = code.decode(ids)
    # Every coefficient is off by at most half a step; the transform keeps lengths.
    assert (back - actions).square().sum(dim=1).sqrt().max() <= 0.5 / SCALE * HORIZON**0.5 + 1e-5
    lengths = (ids != code.end_id).sum(dim=1).float()
    assert lengths.mean() < 0.6 * HORIZON * ACTION_DIM
    assert code.encode(back).equal(ids)


def test_what_lies_beyond_the_data_is_as_far_as_those_go(code):
    far = code.decode(code.encode(100 * torch.ones(1, HORIZON, ACTION_DIM)))
    assert far.isfinite().all() and 0.9 < far.max() < 2


def test_a_still_chunk_is_its_end_alone(code):
    assert code.encode(torch.zeros(1, HORIZON, ACTION_DIM)).tolist() == [[code.end_id]]
    assert code.decode(torch.tensor([[code.end_id]])).abs().max() == 0


def test_whatever_is_told_is_a_chunk(code):
    ids = torch.randint(code.entries, (50, 60), generator=torch.Generator().manual_seed(0))
    assert code.decode(ids).shape == (50, HORIZON, ACTION_DIM) and code.decode(ids).isfinite().all()


def test_what_is_fitted_is_in_the_state_and_in_copies(code):
    actions = smooth(20, seed=2)
    loaded = FastCode(256, SCALE, None, horizon=HORIZON, action_dim=ACTION_DIM)
    loaded.load_state_dict(code.state_dict())
    again = FastCode(256, SCALE, None, horizon=HORIZON, action_dim=ACTION_DIM)
    again.fit(as_target(smooth(1000)))
    for other in (loaded, again, copy.deepcopy(code)):
        assert other.encode(actions).equal(code.encode(actions))
    other = FastCode(256, SCALE, None, horizon=HORIZON, action_dim=ACTION_DIM)
    other.fit(as_target(0.3 * smooth(1000, seed=3)))
    other.encode(actions)
    other.load_state_dict(code.state_dict())  # in place, as a run that goes on does
    assert other.encode(actions).equal(code.encode(actions))


def test_only_valid_actions_are_fitted_to():
    target = as_target(smooth(200))
    target.valid[:, 9:] = False
    target.valid[150:] = False
    spoiled = ActionChunk(actions=target.actions.masked_fill(~target.valid[..., None], 1e6), valid=target.valid)
    states = []
    for each in (target, spoiled):
        code = FastCode(256, SCALE, None, horizon=HORIZON, action_dim=ACTION_DIM)
        code.fit(each)
        states.append(code.state_dict())
    assert all(states[0][name].equal(states[1][name]) for name in states[0])


def test_a_vocabulary_too_small_for_the_coefficients_is_refused():
    code = FastCode(16, SCALE, None, horizon=HORIZON, action_dim=ACTION_DIM)
    with pytest.raises(ValueError, match=r"more entries than there are coefficients, got 16 for -\d+ … \d+: choose"):
        code.fit(as_target(smooth(10)))


def publish(folder, chunks, size=400):
    """A folder as FAST's authors publish theirs, made with the tokenizers library as theirs is."""
    rows = (torch.from_numpy(dct(chunks.numpy(), axis=1, norm="ortho")) * SCALE).round().long().flatten(1)
    lowest = int(rows.min())
    texts = ["".join(chr(x - lowest) for x in row) for row in rows.tolist()]
    tokenizer = ByteLevelBPETokenizer()
    alphabet = [chr(i) for i in range(int(rows.max()) - lowest + 1)]
    trainer = BpeTrainer(
        vocab_size=size, min_frequency=2, initial_alphabet=alphabet, max_token_length=10000, show_progress=False
    )
    tokenizer._tokenizer.train_from_iterator(texts, trainer=trainer)
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    about = {"scale": SCALE, "vocab_size": size, "min_token": lowest, "time_horizon": None, "action_dim": None}
    (folder / "processor_config.json").write_text(json.dumps(about))
    return [tokenizer.encode(text).ids for text in texts], rows.tolist()


def test_a_published_folder_gives_the_ids_that_its_own_tokenizer_gives(tmp_path):
    chunks = smooth(300)
    theirs, rows = publish(tmp_path / "fast", chunks)
    vocabulary, scale = FastVocabulary.load(tmp_path / "fast")
    assert scale == SCALE and vocabulary.encode(rows) == theirs
    assert [vocabulary.decode(ids) for ids in theirs] == rows
    assert sum(vocabulary.begun[x] for x in theirs[0]) == HORIZON * ACTION_DIM
    code = FastCode(400, 1.0, tmp_path / "fast", horizon=HORIZON, action_dim=ACTION_DIM)
    code.fit(as_target(chunks[:0]))
    loaded = FastCode(400, 1.0, tmp_path / "nowhere", horizon=HORIZON, action_dim=ACTION_DIM)
    loaded.load_state_dict(code.state_dict())
    back = loaded.decode(loaded.encode(chunks))
    assert (back - chunks).square().sum(dim=1).sqrt().max() <= 0.5 / SCALE * HORIZON**0.5 + 1e-5


def test_a_folder_of_something_else_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"expected a FAST vocabulary in .*nowhere: processor_config.json with scale"):
        FastVocabulary.load(tmp_path / "nowhere")
    publish(tmp_path / "fast", smooth(50))
    code = FastCode(500, SCALE, tmp_path / "fast", horizon=HORIZON, action_dim=ACTION_DIM)
    with pytest.raises(ValueError, match="expected a vocabulary of 500 entries, as the head's config says, got 400"):
        code.fit(as_target(smooth(1)))
