"""Low-rank updates of a frozen network (LoRA, Hu et al. 2021, arXiv 2106.09685), learned in float32."""

import re
from typing import Any

import torch
from torch import nn

from vla.backbones.vlm.config import VLMConfig

MARK = ".lora_"
"""What the names of the updates' weights have, and no others."""


def add_lora(model: nn.Module, config: VLMConfig) -> None:
    """Freeze ``model`` and add updates to the linear layers that ``config.lora_targets`` matches.

    They start as nothing: of the two factors the first is drawn from a normal distribution, the second is zero.
    ``ValueError`` where no layer matches, ``ModuleNotFoundError`` without peft.
    """
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    chosen = [name for name in names if re.fullmatch(config.lora_targets, name)]
    if not chosen:
        raise ValueError(f"lora_targets {config.lora_targets!r} matches no linear layer, such as {names[-1]}")
    inject, settings = _peft()
    inject(
        settings(
            r=config.lora_rank,
            lora_alpha=config.lora_alpha,
            lora_dropout=config.lora_dropout,
            target_modules=chosen,
            init_lora_weights="gaussian",
        ),
        model,
    )
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(MARK in name)
        if MARK in name:
            parameter.data = parameter.data.to(torch.float32)


def _peft() -> tuple[Any, Any]:
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "tuning 'lora' needs the extra peft (pip install -e '.[peft]' -c constraints.txt); "
            "'frozen' and 'full' do without"
        ) from error
    return inject_adapter_in_model, LoraConfig
