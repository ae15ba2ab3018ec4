"""The nano backbone against the backbone contract, and what its parts promise."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from vla_inputs import STATE_DIM, random_observation, tiny_nano, with_depth

from vla.backbones.nano import NanoConfig
from vla.backbones.transformer import Block, prefix_bias
from vla.features import TokenRole


class BackboneContract:
    """What every backbone promises; subclasses give ``make`` and ``observe``."""

    def make(self):
        raise NotImplementedError

    def observe(self, backbone):
        return random_observation(backbone)

    def test_features_have_every_layer_and_token(self):
        backbone = self.make()
        features = backbone(self.observe(backbone))
        depth, b, n, d = features.hidden.shape
        assert (depth, b, d) == (backbone.depth, 2, backbone.width)
        assert features.mask.shape == (2, n)
        assert features.layout.role.shape == features.layout.view.shape == (n,)
        assert features.layout.cell.shape == (n, 2)
        assert features.hidden.isfinite().all()

    def test_queries_come_last(self):
        backbone = self.make()
        layout = backbone(self.observe(backbone)).layout
        where = layout.where(TokenRole.QUERY)
        n = len(layout.role)
        assert where.tolist() == list(range(n - backbone.n_queries, n))

    def test_tokens_are_padded_to_one_length(self):
        ids, mask = self.make().tokenize(["pick up the red cube", "lift"])
        assert ids.shape == mask.shape
        assert mask[0].all() and not mask[1].all()

    def test_texts_beyond_the_window_are_named(self):
        backbone = self.make()
        text = "put the red cube into the blue bin and " * backbone.text_window
        with pytest.raises(ValueError, match=rf"at most {backbone.text_window} tokens .* got \d+ tokens: 'put the red"):
            backbone.check_texts(["lift", text])
        backbone.check_texts(["lift"])
        assert backbone.lost_words("lift") == ""
        assert backbone.lost_words(text) and text.strip().endswith(backbone.lost_words(text))

    def test_more_padding_changes_nothing(self):
        backbone = self.make().eval()
        observation = self.observe(backbone)
        padded = replace(
            observation,
            text=torch.cat([observation.text, torch.full((2, 3), 7)], dim=1),
            text_mask=torch.cat([observation.text_mask, torch.zeros(2, 3, dtype=torch.bool)], dim=1),
        )
        self._assert_same(backbone(observation), backbone(padded))

    def test_a_missing_view_has_no_influence(self):
        backbone = self.make().eval()
        observation = self.observe(backbone)
        observation.view_mask[:, :, 1] = False
        other = observation.images.clone()
        other[:, :, 1] = float("nan")
        self._assert_same(backbone(observation), backbone(replace(observation, images=other)))
        assert not backbone(observation).mask[:, backbone(observation).layout.view == 1].any()

    def test_samples_do_not_influence_each_other(self):
        backbone = self.make().eval()
        observation = self.observe(backbone)
        alone = replace(
            observation,
            **{
                name: value[:1]
                for name in ("images", "view_mask", "text", "text_mask", "state", "depth", "intrinsics", "T_world_cam")
                if (value := getattr(observation, name)) is not None
            },
        )
        both, one = backbone(observation), backbone(alone)
        torch.testing.assert_close(both.hidden[:, :1], one.hidden, atol=1e-5, rtol=1e-4)

    def test_the_same_seed_gives_the_same_network(self):
        torch.manual_seed(3)
        first = self.make()
        torch.manual_seed(3)
        second = self.make()
        observation = self.observe(first)
        assert first(observation).hidden.equal(second(observation).hidden)

    def test_a_prefix_is_what_forward_gives_without_queries(self):
        backbone = self.make().eval()
        observation = self.observe(backbone)
        whole, features = backbone(observation), backbone.encode(observation).features
        assert not len(features.layout.where(TokenRole.QUERY))
        before = len(whole.layout.role) - backbone.n_queries
        torch.testing.assert_close(features.hidden, whole.hidden[:, :, :before], atol=1e-5, rtol=1e-5)
        for name in ("role", "view", "cell"):
            assert getattr(features.layout, name).equal(getattr(whole.layout, name)[:before])
        assert features.mask.equal(whole.mask[:, :before]) and features.state.equal(whole.state)

    def test_decoding_in_pieces_equals_decoding_at_once(self):
        backbone = self.make().eval()
        prefix, told = backbone.encode(self.observe(backbone)), torch.randn(2, 5, backbone.width)
        mask = torch.tensor([[True] * 5, [True, True, False, True, True]])
        together, _ = backbone.decode(prefix, told, mask, causal=True)
        assert together.shape == (backbone.depth, 2, 5, backbone.width)
        longer, pieces = prefix, []
        for at in (slice(0, 1), slice(1, 4), slice(4, 5)):
            hidden, longer = backbone.decode(longer, told[:, at], mask[:, at], causal=True)
            pieces.append(hidden)
        where = mask.expand(backbone.depth, -1, -1)
        torch.testing.assert_close(torch.cat(pieces, dim=2)[where], together[where], atol=1e-5, rtol=1e-4)
        again, _ = backbone.decode(prefix, told, mask, causal=True)
        assert again.equal(together), "the prefix stays as it was"

    def test_what_is_decoded_sees_what_it_may(self):
        backbone = self.make().eval()
        prefix, told = backbone.encode(self.observe(backbone)), torch.randn(2, 4, backbone.width)
        mask = torch.ones(2, 4, dtype=torch.bool)
        for changed, causal, heard in ((3, True, [3]), (1, True, [1, 2, 3]), (3, False, [0, 1, 2, 3])):
            other = told.clone()
            other[:, changed] += torch.randn(2, backbone.width)
            before, after = (backbone.decode(prefix, x, mask, causal=causal)[0][-1] for x in (told, other))
            moved = (before - after).abs().amax(dim=(0, 2)) > 1e-5
            assert moved.nonzero()[:, 0].tolist() == heard

    def test_several_ways_go_on_from_one_prefix(self):
        backbone = self.make().eval()
        prefix, about = backbone.encode(self.observe(backbone)), torch.tensor([1, 0, 1])
        told, mask = torch.randn(3, 2, backbone.width), torch.ones(3, 2, dtype=torch.bool)
        hidden, _ = backbone.decode(prefix.at(about), told, mask, causal=True)
        for row in range(3):
            one = slice(row, row + 1)
            alone, _ = backbone.decode(prefix.at(about[one]), told[one], mask[one], causal=True)
            torch.testing.assert_close(hidden[:, one], alone, atol=1e-5, rtol=1e-4)

    @staticmethod
    def _assert_same(first, second):
        roles = (TokenRole.STATE, TokenRole.QUERY)
        torch.testing.assert_close(first.select(*roles)[0], second.select(*roles)[0], atol=1e-5, rtol=1e-4)


class TestNano(BackboneContract):
    def make(self):
        return tiny_nano()


class TestNanoWithDepth(BackboneContract):
    def make(self):
        return tiny_nano(use_depth=True)

    def observe(self, backbone):
        return with_depth(random_observation(backbone))


class TestNanoWithFrames(BackboneContract):
    def make(self):
        return tiny_nano(frames=3)

    def observe(self, backbone):
        return random_observation(backbone, frames=3)


def test_layout_names_each_token():
    backbone = tiny_nano(frames=2)
    layout = backbone(random_observation(backbone, frames=2)).layout
    rows, columns = 2, 3  # 32 × 48 px in cells of 16
    image = layout.where(TokenRole.IMAGE)
    assert len(image) == 2 * 2 * rows * columns
    per_frame = [(v, r, c) for v in range(2) for r in range(rows) for c in range(columns)]
    given = [(v, *cell) for v, cell in zip(layout.view[image].tolist(), layout.cell[image].tolist(), strict=True)]
    assert given == per_frame * 2
    keypoint = layout.where(TokenRole.KEYPOINT)
    assert layout.view[keypoint].tolist() == [0, 1] + [0, 0, 0, 1, 1, 1] * 2  # looks first
    elsewhere = layout.where(TokenRole.TEXT, TokenRole.STATE, TokenRole.QUERY)
    assert (layout.view[elsewhere] == -1).all() and (layout.cell[elsewhere] == -1).all()


def test_a_patch_token_sees_its_own_cell():
    """Gradient of the patch encoder's token reaches pixels around its cell, not the far corner."""
    backbone = tiny_nano(blocks=0)
    backbone.image_encoder.surroundings = nn.Identity()
    images = torch.rand(1, 3, 32, 48, requires_grad=True)
    tokens = backbone.patch_encoder(backbone.image_encoder(images)).flatten(2).mT
    tokens[0, 5].sum().backward()  # row 1, column 2 of 2 × 3
    touched = images.grad.abs().sum(1)[0] > 0
    assert touched[16:, 32:].any() and not touched[:8, :24].any()


def test_prefix_ignores_queries_and_queries_see_all():
    mask = torch.tensor([[True, True, False, True, True]])
    allowed = prefix_bias(mask, 2, torch.float32)[0, 0] == 0
    prefix, query = [True, True, False, False, False], [True, True, False, True, True]
    assert allowed.tolist() == [prefix, prefix, prefix, query, query]


def test_block_attends_as_the_formula_says():
    block = Block(8, 2)
    x, bias = torch.randn(2, 5, 8), torch.zeros(2, 1, 5, 5)
    bias[..., 4] = float("-inf")
    q, k, v = block.qkv(block.norm(x)).chunk(3, dim=-1)
    heads = []
    for part in (slice(0, 4), slice(4, 8)):
        logits = q[..., part] @ k[..., part].transpose(1, 2) / 2.0 + bias[:, 0]
        heads.append(logits.softmax(-1) @ v[..., part])
    expected = x + block.out(torch.cat(heads, dim=-1))
    torch.testing.assert_close(block(x, bias), expected + block.feed_forward(expected))


def test_keypoints_move_when_the_instruction_changes():
    backbone = tiny_nano()
    observation = random_observation(backbone, ("pick up the red cube",))
    other = replace(observation, text=backbone.tokenize(("pick up the blue cube",))[0])
    assert observation.text.shape == other.text.shape and not observation.text.equal(other.text)

    def positions(observation):
        return backbone.look(observation).position

    moved = (positions(observation) - positions(other)).abs()
    assert moved.max() > 1e-3


def test_word_order_changes_the_pooled_text():
    encoder = tiny_nano().text_encoder
    backbone = tiny_nano()
    ids, mask = backbone.tokenize(["put the red cube into the blue bin", "put the blue cube into the red bin"])
    with torch.no_grad():
        encoder.position.zero_()
        for conv in encoder.context:  # silent before training
            torch.nn.init.normal_(conv.weight)
    _, pooled = encoder(ids, mask)
    assert (pooled[0] - pooled[1]).abs().max() > 1e-3


def test_depth_changes_the_features():
    backbone = tiny_nano(use_depth=True).eval()
    observation = with_depth(random_observation(backbone))
    farther = replace(observation, depth=observation.depth + 0.5)
    uncalibrated = replace(observation, intrinsics=None, T_world_cam=None)
    hidden = backbone(observation).hidden
    assert (hidden - backbone(farther).hidden).abs().max() > 1e-4
    assert (hidden - backbone(uncalibrated).hidden).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda o: {"images": o.images[..., :16]},
            r"expected images of shape \(2, 1, 2, 3, 32, 48\), got \(2, 1, 2, 3, 32, 16\)",
        ),
        (lambda o: {"images": o.images[:, :, :1], "view_mask": o.view_mask[:, :, :1]}, "expected images of shape"),
        (lambda o: {"view_mask": o.view_mask[:, :, :1]}, "expected view_mask of shape"),
        (lambda o: {"state": torch.zeros(2, STATE_DIM + 1)}, r"expected state of shape \(2, 5\), got \(2, 6\)"),
        (
            lambda o: {"text": o.text.repeat(1, 4), "text_mask": o.text_mask.repeat(1, 4)},
            "at most 24 text tokens",
        ),
        (
            lambda o: {"images": o.images.repeat(1, 2, 1, 1, 1, 1), "view_mask": o.view_mask.repeat(1, 2, 1)},
            "expected 1…1 frames per view, got 2",
        ),
    ],
)
def test_shapes_that_do_not_fit_are_refused(change, message):
    backbone = tiny_nano(max_text_tokens=24)
    observation = random_observation(backbone)
    with pytest.raises(ValueError, match=message):
        backbone(replace(observation, **change(observation)))


def test_missing_depth_is_refused():
    backbone = tiny_nano(use_depth=True)
    with pytest.raises(ValueError, match="expected depth images"):
        backbone(random_observation(backbone))


@pytest.mark.parametrize(("patch_px", "size"), [(6, (48, 48)), (16, (40, 48))])
def test_patches_that_do_not_tile_the_image_are_refused(patch_px, size):
    with pytest.raises(ValueError, match="patch_px must be a multiple of 8 that divides the image size"):
        tiny_nano(patch_px=patch_px, image_size_px=size)


def test_a_window_is_made_for_sentences_unless_it_is_given():
    sentences = ["put the red cube into the blue bin " * 5, "lift"]
    config = NanoConfig().reading(sentences)
    assert config.max_text_tokens == 64  # 41 tokens and a quarter more, in steps of 16
    assert NanoConfig(max_text_tokens=10).reading(sentences).max_text_tokens == 10
    assert tiny_nano(max_text_tokens=config.max_text_tokens).text_window == 64 < tiny_nano().text_window
    with pytest.raises(ValueError, match="max_text_tokens must be at least 1, got 0"):
        NanoConfig(max_text_tokens=0)
