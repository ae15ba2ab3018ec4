"""Say what a model is made of and about how much memory it needs: vla info MODEL.

MODEL is a pretrained vision-language model (a folder, or an id on the hub), of which its config alone is read, or a
run, checkpoint or policy of ours.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from vla.backbones.vlm.config import Tuning, VLMConfig
from vla.heads.bridge import BridgeConfig
from vla.heads.mlp import MLPConfig
from vla.strict_json import strict_json

if TYPE_CHECKING:
    from vla.backbones.vlm.size import ModelSize

_USUAL = {"state_dim": 8, "horizon": 8, "action_dim": 7}
"""Numbers of a usual arm's state, actions of a chunk and numbers of an action, where no policy says them."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Which model, and how it is to be used."""

    model: Annotated[str, tyro.conf.Positional]
    """A folder or an id on the hub with a pretrained model, or a run, checkpoint or policy of ours."""
    tuning: Tuning = "lora"
    """How a pretrained model is tuned: frozen, lora or full."""
    side_px: int | None = None
    """Side of the images that it is fed; by default what it learned with."""
    views: int = 2
    """Cameras."""
    batch_size: int = 16
    """Samples that a training step computes at once (train.batch_size / train.accumulate)."""
    gradient_checkpointing: bool = False
    """Whether layers are computed again in the backward pass."""
    head: BridgeConfig | MLPConfig = field(default_factory=lambda: BridgeConfig(heads=1))
    """The head that is to act on a pretrained model."""
    json: bool = False
    """Print the numbers for programs."""

    def __post_init__(self) -> None:
        for name in ("views", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


def run(config: Config) -> int:
    """Print what there is to say; errors are those of reading the model."""
    about = about_model(config)
    if config.json:
        print(strict_json(about, indent=2))
        return 0
    _show(about)
    return 0


def about_model(config: Config) -> dict[str, Any]:
    """``facts``, parameters by ``parts``, and ``memory_bytes`` by use; JSON-ready."""
    if (directory := _policy_of(config.model)) is not None:
        return _about_policy(config, directory)
    return _about_checkpoint(config)


def _about_checkpoint(config: Config) -> dict[str, Any]:
    """A pretrained model as the backbone of a usual arm's policy."""
    import torch

    from vla.backbones.vlm.size import model_size

    backbone = VLMConfig(
        checkpoint=config.model,
        tuning=config.tuning,
        side_px=config.side_px,
        gradient_checkpointing=config.gradient_checkpointing,
    )
    size = model_size(backbone)
    with torch.device("meta"):
        ours: Any = size  # a head asks a backbone for its width and depth alone
        head = config.head.build(backbone=ours, **_USUAL)
    of_head = sum(parameter.numel() for parameter in head.parameters())
    extra = of_head + (backbone.n_queries + _USUAL["state_dim"] + size.width + 2) * size.width
    return _about_pretrained(config, backbone, size, extra, config.views)


def _policy_of(model: str) -> Path | None:
    """The folder of a policy of ours at ``model``, or None where it is no run, checkpoint or policy."""
    from policies.shipped import SHIPPED
    from policies.training.checkpoint import CHECKPOINTS, MANIFEST
    from policies.vla_policy import POLICY_FILE, find_policy

    path = Path(model).expanduser()
    ours = model == SHIPPED or any((path / name).exists() for name in (POLICY_FILE, MANIFEST, CHECKPOINTS))
    return find_policy(path) if ours else None


def _about_policy(config: Config, directory: Path) -> dict[str, Any]:
    from vla.checkpoint import weight_sizes
    from vla.saving import CONFIG_FILE, WEIGHTS_FILE, read_config

    network = read_config(directory / CONFIG_FILE)
    kept: dict[str, int] = {}
    for name, numbers in weight_sizes(directory / WEIGHTS_FILE).items():
        part = ".".join(name.split(".")[: 2 if name.startswith("backbone.") else 1])
        kept[part] = kept.get(part, 0) + numbers
    facts = {
        "policy": str(directory),
        "cameras": ", ".join(network.cameras),
        "images": f"{network.image_size_px[0]} × {network.image_size_px[1]} px",
        "actions": f"{network.horizon} of {network.action_dim} numbers",
        "state": f"{network.state_dim} numbers",
    }
    if isinstance(network.backbone, VLMConfig):
        from vla.backbones.vlm.pretrained import FOLDER
        from vla.backbones.vlm.size import model_size

        extra = sum(numbers for part, numbers in kept.items() if part != "backbone.model")
        size = model_size(network.backbone, directory / FOLDER)
        about = _about_pretrained(config, network.backbone, size, extra, len(network.cameras))
        return {**about, "facts": facts | about["facts"], "kept": kept}
    total = sum(kept.values())
    return {
        "facts": facts | {"parameters": f"{total:,}"},
        "parts": kept,
        "memory_bytes": {"acting (weights)": 4 * total, "training (weights and optimiser)": 20 * total},
    }


def _about_pretrained(config: Config, backbone: VLMConfig, size: "ModelSize", extra: int, views: int) -> dict[str, Any]:
    """``extra`` are the parameters of head, queries and what reads the state."""
    facts = {
        "model": backbone.checkpoint,
        "family": size.family,
        "parameters": f"{size.parameters:,}",
        "decoder": f"{size.depth} layers of width {size.width}",
        "images of the model": f"{size.side_px} px, {size.grid[0]} × {size.grid[1]} = {size.tokens_per_image} tokens",
        "tokens": f"{size.tokens(backbone, views)} with {views} views",
        "tuning": f"{backbone.tuning}: {size.learned(backbone):,} parameters of the model learn",
        "head and state": f"{extra:,} parameters",
    }
    memory = {}
    for device, cuda in (("CPU", False), ("CUDA", True)):
        memory[f"acting, {device}"] = size.acting_bytes(backbone, views, extra, cuda=cuda)
        training = size.training_bytes(backbone, views, extra, config.batch_size, cuda=cuda)
        memory[f"training {config.batch_size} at once, {device}"] = training
    return {"facts": facts, "parts": size.parts, "memory_bytes": memory}


def _show(about: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False)
    for _ in range(2):
        table.add_column(overflow="fold")
    for name, value in about["facts"].items():
        table.add_row(name, str(value))
    for title in ("parts", "kept"):
        for name, numbers in about.get(title, {}).items():
            table.add_row(f"{'part' if title == 'parts' else 'in the policy'} {name}", f"{numbers / 1e6:,.2f} M")
    for name, needed in about["memory_bytes"].items():
        table.add_row(f"memory, about: {name}", f"{needed / 2**30:.2f} GiB")
    Console().print(table)
