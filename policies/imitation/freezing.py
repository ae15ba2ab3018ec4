"""Which parts of a network learn in a stage."""

from collections.abc import Iterable, Mapping

from torch import nn

from policies.imitation.stages import Stage


def check_parts(model: nn.Module, stages: Iterable[Stage]) -> None:
    """``ValueError`` for a stage that names a part which the network lacks or which has nothing to learn."""
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    for stage in stages:
        for part in stage.learns:
            if not any(_within(name, (part,)) for name in names):
                parts = sorted({name.rpartition(".")[0] for name in names})
                raise ValueError(f"a stage is to learn {part!r}, which is no part of the network: {parts}")


def set_learning(model: nn.Module, parameters: Mapping[str, nn.Parameter], learns: tuple[str, ...]) -> None:
    """Let those of ``parameters`` learn whose name lies in one of the parts ``learns``, all where it is empty.

    Modules none of whose parameters learn are put in evaluation mode, all others in training mode.
    """
    for name, parameter in parameters.items():
        parameter.requires_grad_(not learns or _within(name, learns))
    model.train()
    for module in model.modules():
        own = list(module.parameters())
        if own and not any(parameter.requires_grad for parameter in own):
            module.eval()


def _within(name: str, parts: Iterable[str]) -> bool:
    return any(name == part or name.startswith(f"{part}.") for part in parts)
