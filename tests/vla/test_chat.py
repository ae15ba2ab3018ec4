"""The chat head: its loss against its formula, texts one by one as all at once, and pretrained models that talk."""

from dataclasses import replace

import pytest
import torch
from head_contract import HeadContract
from test_tokens import QUERIES
from tiny_checkpoints import tiny_checkpoint
from torch.nn import functional
from vla_inputs import ACTION_DIM, HORIZON, STATE_DIM, random_observation, random_target, tiny_nano
from vlm_inputs import vlm

from vla.backbones.nano import Nano
from vla.backbones.tokenizer import NanoTokenizer
from vla.heads.chat import ChatConfig
from vla.heads.mlp import MLPConfig
from vla.heads.tokens import TokensConfig
from vla.objectives.objective import ObjectiveWeights
from vla.objectives.telling import Telling

TEXTS = ("moving forward and left, gripper open", "standing, gripper closing")


def with_texts(target, ids, mask):
    several = torch.arange(len(target.actions)) % len(ids)
    return replace(target, told=ids[several], told_mask=mask[several])


class TestChatHead(HeadContract):
    config = ChatConfig(width=16, longest=12)
    unused = QUERIES

    def target(self, batch, **sizes):
        ids, mask = NanoTokenizer().encode(TEXTS, ended=True)
        return with_texts(random_target(batch, **sizes), ids[:, 1:], mask[:, 1:])


def talking(backbone, **fields):
    head = ChatConfig(**{"width": 16, "longest": 12, **fields}).build(
        backbone=backbone, state_dim=STATE_DIM, horizon=HORIZON, action_dim=ACTION_DIM
    )
    ids, mask = backbone.tokenize(TEXTS, ended=True)
    begin = 1 if isinstance(backbone, Nano) else 0  # a pretrained model's texts begin with nothing
    target = with_texts(random_target(2), ids[:, begin:], mask[:, begin:])
    return head, head.perceive(backbone, random_observation(backbone)), target


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    return vlm(tiny_checkpoint(tmp_path_factory.mktemp("checkpoint"), "smolvlm")).eval()


@pytest.fixture(params=["nano", "smolvlm"])
def backbone(request):
    return tiny_nano() if request.param == "nano" else request.getfixturevalue("pretrained")


@torch.no_grad()
def test_what_joins_a_sequence_is_as_large_as_its_words(backbone):
    """An order of words that is 50 times smaller than they are is none, and one as much larger hides them."""
    torch.manual_seed(0)
    size = backbone.words.std()
    built = {"backbone": backbone, "state_dim": STATE_DIM, "horizon": HORIZON, "action_dim": ACTION_DIM}
    chat, bins = ChatConfig(width=16, longest=12).build(**built), TokensConfig(bins=16).build(**built)
    telling = Telling(backbone, ObjectiveWeights(caption=1.0))
    told = [chat.position, chat.question, chat.place, bins.position, bins.token.weight, telling.position, telling.role]
    told += [head.condition(torch.randn(64, head.condition.in_features)) for head in (chat, bins)]
    assert all(size / 3 < each.std() < 3 * size for each in told)


@torch.no_grad()
def step_by_step(head, seen, ids):
    """Logits of each token of one row, and the chunk behind them: the tokens one after the other, without padding."""
    words, after = seen.backbone.words, seen
    hidden, after = after.decode((head.question + head.position[0]).expand(1, 1, -1), causal=True)
    logits = []
    for place, token in enumerate(ids.tolist(), start=1):
        logits.append(head.out(hidden[0, -1]) @ words.T / (words.std() * words.shape[1] ** 0.5) + head.entry_bias)
        hidden, after = after.decode((words[token] + head.position[place]).expand(1, 1, -1), causal=True)
    return torch.stack(logits), head.act(after)[0]


def test_the_loss_is_smoothed_cross_entropy_and_l1_with_and_without_the_text(backbone):
    head, seen, target = talking(backbone, text=0.7, action=1.3, smoothing=0.1, silent=0.25, longest=64)
    assert head.answer_tokens(backbone, TEXTS)[0].equal(target.told)
    target.valid[0, 2:] = False
    loss, numbers = head.loss(seen, target)
    texts, errors, silent = [], [], (head.act(seen) - target.actions).abs().mean(dim=-1)
    for row in range(2):
        ids = target.told[row][target.told_mask[row]]
        logits, chunk = step_by_step(head, seen.at(torch.tensor([row])), ids)
        texts.append(functional.cross_entropy(logits, ids, label_smoothing=0.1))
        errors.append((chunk - target.actions[row]).abs().mean(dim=-1))
    text = (2 * texts[0] + HORIZON * texts[1]) / (2 + HORIZON)
    spoken, unspoken = (torch.cat([error[0][:2], error[1]]).mean() for error in (errors, silent))
    expected = 0.7 * text + 1.3 * (0.75 * spoken + 0.25 * unspoken)
    torch.testing.assert_close(loss, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(numbers["l1"], spoken.detach(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(numbers["l1_silent"], unspoken.detach(), atol=1e-5, rtol=1e-4)
    assert set(numbers) == {"l1", "l1_first", "l1_silent", "nll", "accuracy"}


def test_it_learns_to_tell_and_acts_behind_what_it_tells():
    torch.manual_seed(0)
    backbone = tiny_nano()
    head, _, target = talking(backbone)
    observation = random_observation(backbone)
    with torch.no_grad():
        seen = head.perceive(backbone, replace(observation, state=3 * observation.state))
    optimiser = torch.optim.Adam(head.parameters(), lr=1e-2)
    for _ in range(200):
        optimiser.zero_grad()
        head.loss(seen, target)[0].backward()
        optimiser.step()
    chunk, told = head.speak(seen)
    assert backbone.read(told) == list(TEXTS)
    for row in range(2):
        ids = target.told[row][target.told_mask[row]]
        _, expected = step_by_step(head, seen.at(torch.tensor([row])), ids)
        torch.testing.assert_close(chunk[row], expected, atol=1e-4, rtol=1e-4)
    assert (chunk - head.act(seen)).abs().max() > 1e-4, "what is told makes a difference"
    alone, text = head.speak(seen.at(torch.tensor([1])))
    torch.testing.assert_close(alone[0], chunk[1], atol=1e-5, rtol=1e-4)
    assert backbone.read(text) == [TEXTS[1]]


def test_each_token_is_the_likeliest_and_a_text_without_an_end_is_cut(backbone):
    head, seen, _ = talking(backbone, longest=5)
    with torch.no_grad():
        head.entry_bias.normal_(std=0.1)
        head.entry_bias[head.end_id] = -1e6
    chunk, told = head.speak(seen)
    assert told.shape == (2, 5) and not bool((told == head.end_id).any())
    for row in range(2):
        logits, expected = step_by_step(head, seen.at(torch.tensor([row])), told[row])
        assert logits.argmax(dim=-1).equal(told[row])
        torch.testing.assert_close(chunk[row], expected, atol=1e-4, rtol=1e-4)


def test_what_cannot_be_learned_is_refused():
    backbone = tiny_nano()
    head, seen, _ = talking(backbone)
    with pytest.raises(ValueError, match="expected a target with a text for each chunk"):
        head.loss(seen, random_target(2))
    with pytest.raises(ValueError, match=r"tells at most 12 tokens \(longest\).* have up to 16"):
        head.answer_tokens(backbone, [" ".join(["left"] * 15)])
    mlp = MLPConfig().build(backbone=backbone, state_dim=STATE_DIM, horizon=HORIZON, action_dim=ACTION_DIM)
    with pytest.raises(TypeError, match="MLPHead says nothing of what it does: take a chat head"):
        mlp.speak(backbone(random_observation(backbone)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"silent": 0.0}, r"silent in \(0, 1\)"),
        ({"smoothing": 1.0}, r"smoothing of the chat head in \[0, 1\)"),
        ({"text": 0.0}, "text of the chat head as a positive weight, got 0"),
        ({"longest": 0}, "longest of the chat head of at least 1, got 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        ChatConfig(**fields)
