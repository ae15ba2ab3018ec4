"""Where each token of ``nano``'s sequence comes from."""

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from vla.features import TokenLayout, TokenRole


@lru_cache(maxsize=256)
@torch.inference_mode(False)  # what is kept must serve learning too
def nano_layout(
    *,
    frames: int,
    views: int,
    grid: tuple[int, int] | None,
    patches: int,
    keypoint_tokens: int,
    text_tokens: int,
    queries: int,
    device: torch.device,
) -> TokenLayout:
    """Role, view and patch cell of every token, in the order in which :class:`vla.backbones.nano.Nano` joins them.

    ``grid`` is (rows, columns) of the ``patches`` in a view, None where those stand for several cells; it has
    ``keypoint_tokens`` at first sight. The same layout is given for the same numbers.
    """
    each_view = torch.arange(views, device=device)
    counts = (
        (TokenRole.KEYPOINT, views),
        (TokenRole.IMAGE, frames * views * patches),
        (TokenRole.KEYPOINT, frames * views * keypoint_tokens),
        (TokenRole.TEXT, text_tokens),
        (TokenRole.STATE, 1),
        (TokenRole.QUERY, queries),
    )
    role = torch.cat([torch.full((n,), int(kind), device=device) for kind, n in counts])
    view, cell = torch.full_like(role, -1), torch.full((len(role), 2), -1, device=device)
    of_keypoints = each_view.repeat_interleave(keypoint_tokens).repeat(frames)
    view[role == TokenRole.KEYPOINT] = torch.cat([each_view, of_keypoints])
    view[role == TokenRole.IMAGE] = each_view.repeat_interleave(patches).repeat(frames)
    if grid is not None:
        rows, columns = (torch.arange(side, device=device) for side in grid)
        cell[role == TokenRole.IMAGE] = torch.cartesian_prod(rows, columns).repeat(frames * views, 1)
    return TokenLayout(role=role, view=view, cell=cell)


def placed(layout: TokenLayout, cells: Float[Tensor, "b t v k 2"]) -> TokenLayout:
    """``layout`` with the mean ``cells`` of what each token of an image stands for."""
    position = cells.new_full((len(cells), len(layout.role), 2), -1.0)
    position[:, layout.where(TokenRole.IMAGE)] = cells.flatten(1, 3)
    return layout.standing_for(position)
