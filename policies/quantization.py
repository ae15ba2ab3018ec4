"""Networks whose linear layers compute with 8-bit integers, to act faster on a CPU."""

import warnings

import torch
from torch import nn


def quantize_linears(network: nn.Module) -> int:
    """Give every linear layer of ``network``, in place, weights of 8-bit integers; returns how many layers those were.

    Weights are rounded once, activations anew for every pass, by the range of all that goes through a layer together
    (torch's dynamic quantisation). So a row's answer depends on the rows beside it: let each go through alone. The
    network can act on the CPU afterwards, but neither learn nor be saved. ``ValueError`` for one that is elsewhere, or
    where torch has no integer arithmetic for this processor.
    """
    device = next(network.parameters()).device
    if device.type != "cpu":
        raise ValueError(f"int8 is for networks on the CPU, this one is on {device}")
    if torch.backends.quantized.engine in ("none", ""):
        raise ValueError("int8: this build of torch has no integer arithmetic for this processor")
    count = sum(type(module) is nn.Linear for module in network.modules())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch.ao.quantization as a whole is to be replaced
        warnings.filterwarnings("ignore", message=".*quantized tensor creation functions", category=UserWarning)
        torch.ao.quantization.quantize_dynamic(network, {nn.Linear}, dtype=torch.qint8, inplace=True)
    return count
