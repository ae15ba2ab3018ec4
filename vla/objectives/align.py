"""Hidden states of a trained policy to be matched: the alignment of VITA-VLA (arXiv 2510.09607)."""

from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from vla.heads.chunks import over_samples
from vla.objectives.further import FurtherObjective, Learned, Taught
from vla.observation import ActionChunk

if TYPE_CHECKING:
    from vla.model import VLA

HIDDEN = "hidden"
"""What a teacher's head reads its chunk off."""


class Align(FurtherObjective):
    """Mean square of the difference between what the head reads its chunk off and what a teacher's head does.

    Where the teacher has one vector for the whole chunk, the mean of the head's over the actions is to be that. The
    mapper of the paper belongs to the head (:class:`vla.heads.mapper.MapperHead`), since acting needs it, so this owns
    nothing. Departure: the mean over the numbers of a vector, not their sum.
    """

    NEEDS: ClassVar[tuple[str, ...]] = (HIDDEN,)

    def forward(self, vla: "VLA", seen: Any, target: ActionChunk, taught: Taught) -> Learned:
        hidden, theirs = vla.head.hidden(seen), taught[HIDDEN]
        if theirs.shape[1] == 1:
            hidden = hidden.mean(dim=1, keepdim=True)
        loss = over_samples(_distance(hidden, theirs), target)
        return Learned(loss, {"align_mse": loss.detach()})


def _distance(ours: Tensor, theirs: Tensor) -> Tensor:
    return (ours.float() - theirs).square().mean(dim=(1, 2))


def check_alignment(vla: "VLA", shape: tuple[int, int], horizon: int) -> None:
    """``ValueError`` unless the head's hidden states can be those (k, d) of a teacher with this ``horizon``."""
    try:
        k, width = vla.head.hidden_shape
    except TypeError as error:
        raise ValueError(f"hidden states of a teacher cannot be matched: {error}") from error
    if horizon != vla.config.horizon:
        raise ValueError(f"the teacher has a horizon of {horizon} actions, this network of {vla.config.horizon}")
    if width != shape[1]:
        raise ValueError(
            f"the teacher's head has hidden states of {shape[1]} numbers, this one's of {width}: take a head of that "
            "width (--head.width, of a mapper head)"
        )
    if k < shape[0]:
        raise ValueError("the teacher has a hidden state for each action, this head but one: take a mapper head")
