"""The same networks, with the same weights, as somebody writes them for one case: what our contracts cost beside it.

A pretrained model is transformers' own forward on ``inputs_embeds`` and ``pixel_values``; ``nano`` is its layers one
after the other. No view may be missing and no text padded: nothing is checked, masked by view, or said about tokens.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vla.backbones.nano import Nano
from vla.backbones.transformer import merge_heads, split_heads
from vla.backbones.vlm.backbone import VLM
from vla.backbones.vlm.fused import FusedModel
from vla.features import TokenRole
from vla.heads.bridge import BridgeConfig, BridgeHead, BridgeLayer
from vla.heads.mlp import MLPHead
from vla.model import VLA
from vla.observation import Observation

Act = Callable[[Observation], Float[Tensor, "b h a"]]


def plain_peer(vla: VLA) -> Act | None:
    """The network without our contracts, around the same layers; None for what nobody wrote."""
    head, backbone = plain_head(vla.head), vla.backbone
    if head is None:
        return None
    if isinstance(backbone, Nano):
        return PlainNano(backbone, head).act
    if not isinstance(backbone, VLM) or isinstance(backbone.model, FusedModel):  # which transformers has no forward of
        return None
    if backbone._parts.family.pattern == "causal":
        return PlainVLM(backbone, head).act
    return None


class PlainVLM(nn.Module):
    """A causal model of transformers behind images, text, state and queries, with a head on its hidden states."""

    def __init__(self, backbone: VLM, head: nn.Module) -> None:
        super().__init__()
        self.model, self.state_encoder, self.queries = backbone.model, backbone.state_encoder, backbone.queries
        self.head = head
        config, numbers = backbone._parts.family.config, backbone._parts.pictures[0]
        self.together = config.model_type in ("smolvlm", "idefics3")  # images of one sample in one dimension
        self.frame = backbone.frame.ids.masked_fill(backbone.frame.view >= 0, config.image_token_id)
        self.is_image = backbone.frame.view >= 0
        self.numbers = [torch.tensor(x, device=self.frame.device)[:, None, None] for x in (numbers.mean, numbers.std)]

    @torch.no_grad()
    def act(self, observation: Observation) -> Float[Tensor, "b h a"]:
        mean, std = self.numbers
        pixels = (observation.images[:, 0] - mean) / std
        ids = torch.cat([self.frame.expand(len(pixels), -1), observation.text], dim=1)
        state = self.state_encoder(observation.state)[:, None]
        queries = self.queries.expand(len(pixels), -1, -1)
        embedded = torch.cat([self.model.get_input_embeddings()(ids), state, queries], dim=1)
        found = self.model(
            inputs_embeds=embedded,
            pixel_values=pixels if self.together else pixels.flatten(0, 1),
            attention_mask=torch.ones(embedded.shape[:2], dtype=torch.long, device=embedded.device),
            output_hidden_states=True,
            use_cache=False,
        )
        hidden, image, n = found.hidden_states[1:], self.is_image.nonzero()[:, 0], queries.shape[1]
        return self.head([x[:, image] for x in hidden], [x[:, -n:] for x in hidden], observation.state)


class PlainNano(nn.Module):
    """The layers of ``nano`` in the order in which they come."""

    def __init__(self, nano: Nano, head: nn.Module) -> None:
        super().__init__()
        self.nano, self.head = nano, head

    @torch.no_grad()
    def act(self, observation: Observation) -> Float[Tensor, "b h a"]:
        nano, (b, _, v) = self.nano, observation.view_mask.shape
        state, roles = observation.state, nano.role_embedding
        maps = nano.image_encoder(observation.images.flatten(0, 2)) + nano.map_position
        patches = nano.patch_encoder(maps).flatten(2).mT + nano.cell_embedding
        text, pooled = nano.text_encoder(observation.text, observation.text_mask)
        questions = pooled[:, None] + nano.camera_embedding
        keypoints, position = nano.keypoint_encoder(maps, questions.flatten(0, 1))
        place = (nano.view_embedding + nano.time_embedding[-1])[:, None]
        seen = [(x.unflatten(0, (b, v)) + place).flatten(1, 2) for x in (patches, keypoints + nano.keypoint_embedding)]
        prefix = torch.cat(
            [
                nano.look_embedding + questions + roles[TokenRole.KEYPOINT],
                seen[0] + roles[TokenRole.IMAGE],
                seen[1] + roles[TokenRole.KEYPOINT],
                text + roles[TokenRole.TEXT],
                nano.state_encoder(state)[:, None] + roles[TokenRole.STATE],
            ],
            dim=1,
        )
        n, q = prefix.shape[1], nano.n_queries
        bias = prefix.new_zeros(1, 1, n + q, n + q)
        bias[..., :n, n:] = float("-inf")
        x = torch.cat([prefix, (nano.queries + roles[TokenRole.QUERY]).expand(b, -1, -1)], dim=1)
        hidden = []
        for index, block in enumerate(nano.blocks, start=1):
            x = block(x, bias)
            if index == nano.look_after:
                again = (nano.second_question(x[:, :v]) + questions).flatten(0, 1)
                found, places = nano.second_look(maps, again)
                places = torch.cat([position.unflatten(0, (b, v)), places.unflatten(0, (b, v))], dim=2).flatten(1)
                if nano.waypoint is not None:
                    places = torch.cat([places, nano.waypoint(torch.cat([places, state], dim=-1))], dim=-1)
                told = nano.query_position(places).unflatten(-1, (q, -1))
                x = torch.cat([x[:, :v] + found.unflatten(0, (b, v))[:, :, 0], x[:, v:n], x[:, n:] + told], dim=1)
            hidden.append(x)
        end = v + seen[0].shape[1] + seen[1].shape[1]
        return self.head([x[:, :end] for x in hidden], [x[:, n:] for x in hidden], state)


def plain_head(head: nn.Module) -> nn.Module | None:
    """The two simplest heads as modules of raw tokens and queries of each layer, and the state."""
    if isinstance(head, MLPHead):
        return PlainMLP(head)
    if isinstance(head, BridgeHead) and head.config == BridgeConfig(heads=head.config.heads):
        return PlainBridge(head)
    return None


class PlainMLP(nn.Module):
    """The mean of the last layer's queries, and the state, through an MLP."""

    def __init__(self, head: MLPHead) -> None:
        super().__init__()
        self.norm, self.mlp, self.shape = head.norm, head.mlp, (head.horizon, head.action_dim)

    def forward(self, raw: Sequence[Tensor], queries: Sequence[Tensor], state: Tensor) -> Float[Tensor, "b h a"]:
        pooled = self.norm(queries[-1]).mean(dim=1)
        return self.mlp(torch.cat([pooled, state], dim=-1)).unflatten(-1, self.shape)


class PlainBridge(nn.Module):
    """Bridge Attention, layer by layer (arXiv 2509.09372, Eq. 1)."""

    def __init__(self, head: BridgeHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, raw: Sequence[Tensor], queries: Sequence[Tensor], state: Tensor) -> Float[Tensor, "b h a"]:
        head = self.head
        x, proprio = head.input(head.slots).expand(len(state), -1, -1), head.proprio(state)[:, None]
        for layer, seen, asked in zip(head.layers, raw, queries, strict=True):
            assert isinstance(layer, BridgeLayer)
            y = layer.norm(x)
            to_raw, to_queries, to_self = layer.query(y).chunk(3, dim=-1)
            condition = layer.query_norm(torch.cat([asked, proprio], dim=1))
            sources = (
                attended(to_raw, layer.raw_key_value(layer.raw_norm(seen)), layer.heads) * layer.gate.tanh(),
                attended(to_queries, layer.query_key_value(condition), layer.heads),
                attended(to_self, layer.self_key_value(y), layer.heads),
            )
            x = x + layer.out(torch.cat(sources, dim=-1))
            x = x + layer.feed_forward(x)
        return head.output(x)


def attended(query: Float[Tensor, "b h d"], key_value: Float[Tensor, "b n e"], heads: int) -> Float[Tensor, "b h d"]:
    q, k, v = (split_heads(part, heads) for part in (query, *key_value.chunk(2, dim=-1)))
    return merge_heads(nn.functional.scaled_dot_product_attention(q, k, v))
