"""Which parts of a network learn in a stage."""

from collections.abc import Iterable, Mapping

from torch import nn

from policies.imitation.stages import Stage, lies_in


def check_parts(model: nn.Module, stages: Iterable[Stage]) -> None:
    """``ValueError`` for a stage that names a part which the network lacks or which has nothing to learn, and for one
    in which nothing learns.
    """
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    for stage in stages:
        for part in stage.parts:
            if not any(lies_in(name, part) for name in names):
                raise ValueError(f"a stage names {part!r}, which is no part of the network: {', '.join(_parts(names))}")
        if not any(stage.rate_of(name) for name in names):
            raise ValueError(f"nothing learns in a stage whose rates are {dict(stage.rates)}")


def set_learning(model: nn.Module, parameters: Mapping[str, nn.Parameter], stage: Stage) -> None:
    """Let those of ``parameters`` learn that have a rate in ``stage``.

    The others get no gradient, and autograd records nothing of what depends on them alone. Modules none of whose
    parameters learn are put in evaluation mode, all others in training mode.
    """
    for name, parameter in parameters.items():
        parameter.requires_grad_(stage.rate_of(name) > 0)
    model.train()
    for module in model.modules():
        own = list(module.parameters())
        if own and not any(parameter.requires_grad for parameter in own):
            module.eval()


def _parts(names: Iterable[str]) -> list[str]:
    """The upper two levels of a network, such as ``head`` and ``head.layers``."""
    return sorted({".".join(name.split(".")[:depth]) for name in names for depth in (1, 2)})
