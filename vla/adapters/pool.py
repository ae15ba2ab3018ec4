"""A pool of modulators: low-rank updates with keys, of which every sample takes the one that its words are closest to.

Learning to Modulate (L2M, Schmied et al. 2023, NeurIPS): the network stays as it was and only the pool learns, task
after task; nobody says which task it is.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vla.adapters.low_rank import adapt
from vla.adapters.targets import modulated
from vla.backbone import Backbone
from vla.head import FeaturesHead, Head
from vla.observation import Observation

if TYPE_CHECKING:
    from vla.model import VLA


@dataclass(frozen=True, kw_only=True)
class PoolConfig:
    """``size`` pairs of a key and an update of this ``rank`` in each layer of :func:`vla.adapters.targets.modulated`;
    alpha is twice the rank. ``pull`` is what the loss counts a key's closeness to the queries that chose it.
    """

    size: int = 30
    rank: int = 8
    pull: float = 0.5

    def __post_init__(self) -> None:
        if self.size < 1 or self.rank < 1:
            raise ValueError(f"expected a pool of at least 1 modulator of rank 1, got {self.size} of rank {self.rank}")

    def build(self, network: "VLA") -> "ModulationPool":
        """The pool of ``network``, whose layers get the updates. ``ValueError`` where it cannot choose for it."""
        return ModulationPool(self, network)


class ModulationPool(nn.Module):
    """Keys k_i, uniform in −1 … 1 at first, and which update each sample has.

    A sample's query q is the mean of its words' embeddings in the frozen backbone, padding apart; it takes the update
    whose key has the greatest cosine to it. In training a key's cosine is divided by 1 + how often it was chosen in
    tasks before (``earlier``), so that another task finds another update; in evaluation the cosine alone counts and
    nothing is counted. Loss: −``pull`` · cos(q, k of the choice), which moves the keys alone.

    Departures: L2M's queries are of states, since its tasks have no words; it learns 100,000 steps a task at a rate
    that would leave keys of a short training where they are drawn, so keys have a rate of their own here (the
    training's choice).
    """

    def __init__(self, config: PoolConfig, network: "VLA") -> None:
        super().__init__()
        _check(network.backbone, network.head)
        self.config = config
        self.keys = nn.Parameter(torch.empty(config.size, network.backbone.words.shape[1]).uniform_(-1, 1))
        self.register_buffer("earlier", torch.zeros(config.size))
        self.register_buffer("present", torch.zeros(config.size))
        self.choice = adapt(network, modulated(network), rank=config.rank, alpha=2 * config.rank, count=config.size)

    def choose(self, backbone: Backbone, observation: Observation) -> Float[Tensor, " b"]:
        """Choose for every sample; returns the cosine of query and chosen key, whose gradient reaches keys alone."""
        cosine = nn.functional.cosine_similarity(self.query(backbone, observation)[:, None], self.keys, dim=-1)
        with torch.no_grad():
            index = self.preferred(cosine)
            if self.training:
                self.get_buffer("present").index_add_(0, index, torch.ones_like(cosine[:, 0]))
        self.choice.index = index
        return cosine.gather(1, index[:, None])[:, 0]

    def query(self, backbone: Backbone, observation: Observation) -> Float[Tensor, "b d"]:
        """The mean embedding of each sample's words, as the frozen backbone has them."""
        with torch.no_grad():
            real = observation.text_mask[..., None]
            total = (backbone.words[observation.text] * real).sum(dim=1)
            return total / real.sum(dim=1).clamp(min=1)

    def preferred(self, cosine: Float[Tensor, "b m"]) -> Int[Tensor, " b"]:
        """The first choice of each sample by its cosines with all keys; see the class."""
        if self.training:
            cosine = cosine / (1 + self.get_buffer("earlier"))
        return cosine.argmax(dim=1)

    def end_task(self) -> None:
        """From now on what was chosen so far counts as earlier."""
        self.get_buffer("earlier").add_(self.get_buffer("present"))
        self.get_buffer("present").zero_()


def _check(backbone: Backbone, head: Head) -> None:  # pyright: ignore[reportMissingTypeArgument]
    """``ValueError`` unless words have embeddings to ask with, and the head sees one pass of as many rows."""
    if not isinstance(head, FeaturesHead):
        raise ValueError(f"a pool of modulators needs a head that sees one pass, got {type(head).__name__}")
    try:
        _ = backbone.words
    except TypeError as error:
        raise ValueError(f"a pool of modulators asks with the embeddings of words: {error}") from error
