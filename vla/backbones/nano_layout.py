"""Where each token of ``nano``'s sequence comes from."""

import torch

from vla.features import TokenLayout, TokenRole


def nano_layout(
    *,
    frames: int,
    views: int,
    grid: tuple[int, int],
    keypoint_tokens: int,
    text_tokens: int,
    queries: int,
    device: torch.device,
) -> TokenLayout:
    """Role, view and patch cell of every token, in the order in which :class:`vla.backbones.nano.Nano` joins them.

    ``grid`` is (rows, columns) of patches in a view, ``keypoint_tokens`` how many a view has at first sight.
    """
    rows, columns = (torch.arange(side, device=device) for side in grid)
    cells = torch.cartesian_prod(rows, columns)
    each_view = torch.arange(views, device=device)
    counts = (
        (TokenRole.KEYPOINT, views),
        (TokenRole.IMAGE, frames * views * len(cells)),
        (TokenRole.KEYPOINT, frames * views * keypoint_tokens),
        (TokenRole.TEXT, text_tokens),
        (TokenRole.STATE, 1),
        (TokenRole.QUERY, queries),
    )
    role = torch.cat([torch.full((n,), int(kind), device=device) for kind, n in counts])
    view, cell = torch.full_like(role, -1), torch.full((len(role), 2), -1, device=device)
    of_keypoints = each_view.repeat_interleave(keypoint_tokens).repeat(frames)
    view[role == TokenRole.KEYPOINT] = torch.cat([each_view, of_keypoints])
    view[role == TokenRole.IMAGE] = each_view.repeat_interleave(len(cells)).repeat(frames)
    cell[role == TokenRole.IMAGE] = cells.repeat(frames * views, 1)
    return TokenLayout(role=role, view=view, cell=cell)
