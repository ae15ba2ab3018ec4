"""What a policy may learn beside its head's loss and the waypoint's: from teachers, from encoders, of itself.

Such an objective may own parameters, a map to a teacher's numbers say. They learn with the network and go with the
state of its training; a saved policy does without.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from vla.observation import ActionChunk

if TYPE_CHECKING:
    from vla.model import VLA

Taught = Mapping[str, Tensor]
"""What teachers say of the samples of a batch (b, …), by the names that objectives need."""


@dataclass(frozen=True)
class Learned:
    """A loss, a mean in which each sample counts by its valid actions; detached scalars to log, means of the same kind;
    and how much each number of the actions is to count in the head's loss, if the objective says that.
    """

    loss: Float[Tensor, ""]
    numbers: dict[str, Tensor]
    weight: Float[Tensor, "b h a"] | None = None


class FurtherObjective(nn.Module, ABC):
    """One further loss of a policy. ``NEEDS`` names all that it may be made of in what is taught."""

    NEEDS: ClassVar[tuple[str, ...]]

    @property
    def needs(self) -> tuple[str, ...]:
        """What it is made of."""
        return self.NEEDS

    @abstractmethod
    def forward(self, vla: "VLA", seen: Any, target: ActionChunk, taught: Taught) -> Learned:
        """The loss of a batch of which the head has ``seen`` what it looks at, and about which ``taught`` is known."""
