"""What stands before the text in a pretrained model's sequence, how long it is, and where all of a prefix stands."""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Real
from torch import Tensor, nn

from vla.backbones.token_reduction import Reduced, TokenReduction
from vla.backbones.vlm.families import Family
from vla.backbones.vlm.fewer_images import mean_places
from vla.backbones.vlm.memory import longer
from vla.backbones.vlm.words import PromptTokenizer
from vla.features import TokenLayout, TokenRole
from vla.observation import Observation


class Frame(nn.Module):
    """What opens the prompt, and the images of ``views``, each in the tokens that its family puts around it.

    ``ids`` are token ids (0 for images), ``view`` is the camera of each token of an image, −1 elsewhere, and ``cell``
    its (row, column) in the encoder's grid, −1 where it stands for none or, after a ``reduction``, for several.
    """

    ids: Int[Tensor, " n"]
    view: Int[Tensor, " n"]
    cell: Int[Tensor, "n 2"]
    unreduced_view: Int[Tensor, " p"]

    def __init__(
        self, tokenizer: PromptTokenizer, family: Family, *, views: int, side_px: int, reduction: TokenReduction | None
    ) -> None:
        super().__init__()
        self._family, self.grid = family, family.grid(side_px)
        self.unreduced = family.tokens(side_px)
        self.image_tokens = self.unreduced if reduction is None else reduction.tokens
        before, after = (tokenizer.wrapping(text) for text in family.around)
        self._opening, self._around = len(tokenizer.opening), len(before) + len(after)
        ids = list(tokenizer.opening)
        for _ in range(views):
            ids += before + [0] * self.image_tokens + after
        view, unreduced_view = (
            _cameras(views, tokens, self._opening, len(before), len(after))
            for tokens in (self.image_tokens, self.unreduced)
        )
        cell = torch.full((len(ids), 2), -1)
        if reduction is None:
            cells = torch.cartesian_prod(*(torch.arange(side) for side in self.grid))
            whole = torch.full((family.whole, 2), -1)
            cell[view >= 0] = torch.cat([whole, cells]).repeat(views, 1)
        self.register_buffer("ids", torch.tensor(ids), persistent=False)
        self.register_buffer("view", view, persistent=False)
        self.register_buffer("cell", cell, persistent=False)
        self.register_buffer("unreduced_view", unreduced_view, persistent=False)
        self._layouts: dict[tuple[int, int, torch.device], TokenLayout] = {}

    def __len__(self) -> int:
        """How many tokens stand before the text."""
        return len(self.ids)

    def mask(self, observation: Observation) -> Bool[Tensor, "b n"]:
        """Which tokens of a prefix are there: those of a missing view are not, nor what stands around it."""
        return self._mask(observation, self.image_tokens)

    def places(
        self, model: Any, observation: Observation, mask: Bool[Tensor, "b n"], reduced: Reduced | None
    ) -> tuple[Real[Tensor, "*r b n"], Int[Tensor, " b"]]:
        """Where the tokens of a prefix stand, and where the next one does: where they would without a reduction."""
        after = (0, observation.text.shape[1] + 1)
        view, unreduced = (nn.functional.pad(x, after, value=-1) for x in (self.view, self.unreduced_view))
        if reduced is None:
            return self._family.positions(model, view, mask, self.grid)
        there = self._mask(observation, self.unreduced)
        places, following = self._family.positions(model, unreduced, there, self.grid)
        return mean_places(places, unreduced, view, reduced), following

    def layout(self, text_tokens: int, queries: int, cells: Float[Tensor, "b p 2"] | None) -> TokenLayout:
        """Role, view and cell of every token of a prefix, and of queries behind it, which is made once for each length;
        with the mean ``cells`` of what the first tokens stand for, if for several.
        """
        key = (text_tokens, queries, self.view.device)
        if key not in self._layouts:
            with torch.inference_mode(False):  # what is kept must serve learning too
                role = torch.where(self.view >= 0, int(TokenRole.IMAGE), int(TokenRole.TEXT))
                layout = TokenLayout(role=role, view=self.view, cell=self.cell)
                layout = longer(longer(layout, TokenRole.TEXT, text_tokens), TokenRole.STATE, 1)
                self._layouts[key] = longer(layout, TokenRole.QUERY, queries)
        layout = self._layouts[key]
        if cells is None:
            return layout
        rest = len(layout.role) - cells.shape[1]
        return layout.standing_for(nn.functional.pad(cells, (0, 0, 0, rest), value=-1.0))

    def _mask(self, observation: Observation, image_tokens: int) -> Bool[Tensor, "b n"]:
        there = observation.view_mask[:, -1]
        views = there.repeat_interleave(self._around + image_tokens, dim=1)
        one = there.new_ones(len(there), 1)
        return torch.cat([one.expand(-1, self._opening), views, observation.text_mask, one], dim=1)


def _cameras(views: int, tokens: int, opening: int, before: int, after: int) -> Int[Tensor, " n"]:
    """Whose each token of an image is, −1 for what stands around them and for what opens the prompt."""
    images = torch.arange(views)[:, None].expand(-1, tokens)
    return nn.functional.pad(nn.functional.pad(images, (before, after), value=-1).flatten(), (opening, 0), value=-1)
