"""Places in pictures as heatmaps: what to learn them from, and the point in the world that several agree on."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from vla.objectives.terms import Term
from vla.spatial.projection import Cameras, CubeViews

CUT_OFF_SIGMAS = 3.0
NARROWEST_PX = 0.25
"""A narrower Gaussian could end, cut off, before it meets the centre of a pixel."""
COLUMNS = 512
"""How many columns of the lattice :func:`best_point` looks at in one go."""


def gaussian_heatmaps(position: Float[Tensor, "b v 2"], side_px: int, sigma_px: float) -> Float[Tensor, "b v s s"]:
    """A Gaussian about a place in each picture, zero beyond three sigma, of sum 1.

    Places (x, y) are −1 … 1 from the left or upper edge to the other. Of one outside of the picture only what reaches
    into it is there, and that is brought to a sum of 1; where nothing does, and for NaN, the map is 0 throughout.
    ``ValueError`` for a sigma below ``NARROWEST_PX``. σ is 1.5 px of 224 in BridgeVLA's fine-tuning and 2 px in its
    pre-training (arXiv 2506.07961, and its code).
    """
    if not sigma_px >= NARROWEST_PX:
        raise ValueError(f"expected a sigma from {NARROWEST_PX} px on, got {sigma_px}")
    centre_px = torch.arange(side_px, device=position.device, dtype=position.dtype) + 0.5
    off_px = (position + 1)[..., None] * (side_px / 2) - centre_px
    x2, y2 = off_px.square().unbind(-2)
    distance2 = y2[..., :, None] + x2[..., None, :]
    near = distance2 <= (CUT_OFF_SIGMAS * sigma_px) ** 2
    heat = torch.where(near, (-distance2 / (2 * sigma_px**2)).exp(), 0.0)
    return heat / heat.sum(dim=(-2, -1), keepdim=True).clamp(min=torch.finfo(heat.dtype).tiny)


def point_targets(
    point_m: Float[Tensor, "b 3"], cameras: Cameras, side_px: int, sigma_px: float
) -> tuple[Float[Tensor, "b v s s"], Bool[Tensor, "b v"]]:
    """What the heatmaps of each scene's pictures are to be for a point of the world, and which of them count.

    A picture that the point does not appear in, as when it is outside of the cube, has no target: 0 throughout.
    """
    projected = cameras.project(point_m[:, None])
    seen = projected.seen.squeeze(-1)
    maps = gaussian_heatmaps(projected.position.squeeze(-2), side_px, sigma_px)
    return torch.where(seen[..., None, None], maps, 0.0), seen


def soft_cross_entropy(
    log_heatmaps: Float[Tensor, "b v s s"], targets: Float[Tensor, "b v s s"]
) -> Float[Tensor, "b v"]:
    """−Σ target · log heatmap over the pixels of each picture, in nats; 0 for a target that is 0 throughout."""
    return -torch.where(targets > 0, targets * log_heatmaps, 0.0).sum(dim=(-2, -1))


def heatmap_loss(
    log_heatmaps: Float[Tensor, "b v s s"], targets: Float[Tensor, "b v s s"], counts: Bool[Tensor, "b v"]
) -> Term:
    """The cross-entropy over all pictures that count."""
    return Term.over(soft_cross_entropy(log_heatmaps, targets), counts)


def score(
    points_m: Float[Tensor, "b m 3"], log_heatmaps: Float[Tensor, "b v s s"], cameras: Cameras
) -> Float[Tensor, "b m"]:
    """How probable points are: the mean over the pictures of the probability, bilinear between pixels' centres, at the
    place where each appears; 0 in a picture that it does not appear in.
    """
    b, v = log_heatmaps.shape[:2]
    projected = cameras.project(points_m)
    maps, places = log_heatmaps.float().exp().view(b * v, 1, *log_heatmaps.shape[2:]), projected.position.flatten(0, 1)
    probable = functional.grid_sample(maps, places[:, None], padding_mode="border", align_corners=False)
    return torch.where(projected.seen, probable.view(b, v, -1), 0.0).mean(dim=1)


@torch.no_grad()
def best_point(
    log_heatmaps: Float[Tensor, "b 3 s s"], cube: CubeViews
) -> tuple[Float[Tensor, "b 3"], Float[Tensor, " b"]]:
    """The point of the cube with the highest :func:`score` for its three pictures, and that score.

    BridgeVLA scores a lattice of 224³ points (arXiv 2506.07961, its code). The same point is found without it: between
    pixels' centres the score is linear along each axis, so that it is highest at one of the s³ points behind them; and
    in a column of these along z, at (x, y), it is at most the sum of what the top says there and of the most that front
    and right say anywhere along it. The most promising column of each x is looked at first, then, in the order of their
    bounds, those that may hold more than was found: none or a few when heatmaps have peaks, all of them at worst. Of
    points with exactly the same score any may be given, the same each time. ``ValueError`` for heatmaps with NaN.
    """
    top, front, right = _along_axes(log_heatmaps.float().exp())
    s = top.shape[-1]
    bound = top + right.amax(dim=-1)[:, :, None] + front.amax(dim=-1)[:, None, :]
    if bool(bound.isnan().any()):
        raise ValueError("expected the logarithms of probabilities, got NaN in a heatmap")
    first = bound.argmax(dim=-1) + s * torch.arange(s, device=bound.device)
    found, where = _best_in_columns(first, top, front, right)
    bound = bound.flatten(1)
    for columns in _promising(bound, found).split(COLUMNS, dim=1):
        if bool((found >= bound.gather(1, columns[:, :1])).all()):
            break
        value, index = _best_in_columns(columns, top, front, right)
        where = torch.where(value > found, index, where)
        found = torch.maximum(found, value)
    lattice = torch.stack([where // s**2, where // s % s, where % s], dim=-1).squeeze(1)
    relative = (2 * lattice.float() + 1) / s - 1
    return cube.centre_m + relative * cube.half_m[:, None], found.squeeze(1) / 3


def _promising(bound: Float[Tensor, "b columns"], found: Float[Tensor, "b 1"]) -> Int[Tensor, "b k"]:
    """The columns that may hold more than was found, the highest bound first, and others in samples with fewer."""
    many = int((bound > found).sum(dim=-1).max())
    columns = bound.topk(many, sorted=False).indices.sort(dim=-1).values
    return columns.gather(1, bound.gather(1, columns).argsort(dim=-1, descending=True, stable=True))


def _along_axes(
    heatmaps: Float[Tensor, "b 3 s s"],
) -> tuple[Float[Tensor, "b x y"], Float[Tensor, "b y z"], Float[Tensor, "b x z"]]:
    """The pictures of :class:`CubeViews` by ascending coordinates of the world."""
    top, front, right = heatmaps.unbind(1)
    return top.flip(-2, -1), front.flip(-2).mT, right.flip(-2).mT


def _best_in_columns(
    column: Int[Tensor, "b k"],
    top: Float[Tensor, "b x y"],
    front: Float[Tensor, "b y z"],
    right: Float[Tensor, "b x z"],
) -> tuple[Float[Tensor, "b 1"], Int[Tensor, "b 1"]]:
    """The highest sum in these columns (x · s + y), and its number (x · s + y) · s + z."""
    s = top.shape[-1]
    sample = torch.arange(len(column), device=column.device)[:, None]
    x, y = column // s, column % s
    sums = right[sample, x] + front[sample, y] + top[sample, x, y][..., None]
    value, index = sums.flatten(1).max(dim=-1, keepdim=True)
    return value, column.gather(1, index // s) * s + index % s
