"""The encoder of an encoder-decoder language model, run as decoders are: on embeddings, with masks and places of our
own, and going on from what is kept.
"""

from types import SimpleNamespace
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional


class BartEncoder:
    """Calls like a decoder of transformers.

    What is kept of a token is what went into each layer, not keys and values, so that going on computes the layers of
    all tokens before once more: those do not attend to what comes after them, so it gives what one pass gives.
    """

    def __init__(self, encoder: Any) -> None:
        self._encoder = encoder

    @property
    def layers(self) -> Any:
        """Its blocks, each with attention of its own."""
        return self._encoder.layers

    def __call__(
        self,
        inputs_embeds: Float[Tensor, "b m d"],
        attention_mask: Float[Tensor, "b 1 m k"],
        position_ids: Int[Tensor, "b m"],
        past_key_values: Any = None,
        **_: Any,
    ) -> SimpleNamespace:
        """``hidden_states`` of the embeddings and of every layer, of the m tokens alone; k = m + those kept."""
        place = self._encoder.embed_positions
        x = self._encoder.layernorm_embedding(
            inputs_embeds + functional.embedding(position_ids + place.offset, place.weight)
        )
        hidden = [x]
        for index, layer in enumerate(self.layers):
            x = (
                layer(x, attention_mask)
                if past_key_values is None
                else _go_on(layer, x, attention_mask, index, past_key_values)
            )
            hidden.append(x)
        return SimpleNamespace(hidden_states=tuple(hidden))


def _go_on(
    layer: Any, x: Float[Tensor, "b m d"], bias: Float[Tensor, "b 1 m k"], index: int, cache: Any
) -> Float[Tensor, "b m d"]:
    nothing = x[:, None, :, :0]
    everything = cache.update(x[:, None], nothing, index)[0][:, 0]
    before = everything.shape[1] - x.shape[1]
    return layer(everything, functional.pad(bias, (0, 0, before, 0)))[:, before:]
