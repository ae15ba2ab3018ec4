"""Networks that processes share out among them: each has a part of every weight, gradient and moment (FSDP2).

A layer is put together in every process when its turn comes, and given up again (*fully sharded data parallel*, Zhao et
al. 2023, arXiv 2304.11277; torch's ``fully_shard``), so that a network, its gradients and what its optimiser remembers
need to fit all devices together, not each.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeGuard

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

if TYPE_CHECKING:  # a second to import, and most runs share nothing out
    from torch.distributed.tensor import DTensor


def share_out(model: nn.Module, layers: Iterable[nn.Module], processes: int, device: torch.device) -> None:
    """Leave this one of all ``processes`` its part of the weights of ``model``, which are the same in all of them.

    The model is then to be called as a whole, by all processes at the same time, and with the same parameters learning
    every time. Its ``layers`` are put together one by one, everything else at once. Gradients come out summed over the
    processes. Single numbers, such as gates, are left whole, and so are their gradients.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (processes,))
    numbers = {parameter for parameter in model.parameters() if not parameter.ndim}
    for module in (*layers, model):
        sharded = fully_shard(module, mesh=mesh, ignored_params=numbers, reshard_after_forward=True)
        sharded.set_gradient_divide_factor(1.0)
        sharded.set_force_sum_reduction_for_comms(True)  # gloo knows no sum that is divided on the way


def is_shared_out(tensor: Tensor) -> "TypeGuard[DTensor]":
    """Whether this process has only a part of it."""
    return hasattr(tensor, "to_local")


def own_part(tensor: Tensor) -> Tensor:
    """What this process has of ``tensor``, of the same storage."""
    return tensor.to_local() if is_shared_out(tensor) else tensor


def put_together(tensor: Tensor) -> Tensor:
    """``tensor`` with the parts of all processes, which all have to ask if it is shared out."""
    return tensor.full_tensor() if is_shared_out(tensor) else tensor


@torch.no_grad()
def overwrite(tensor: Tensor, value: Tensor) -> None:
    """Copy ``value``, which is whole or shared out alike, into ``tensor``."""
    own_part(tensor).copy_(own_part(shared_out_as(tensor, value)))


def shared_out_as(tensor: Tensor, value: Tensor) -> Tensor:
    """This process's part of ``value``, which is whole in all of them, if ``tensor`` is shared out."""
    if not is_shared_out(tensor) or is_shared_out(value):
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(tensor.device), tensor.device_mesh, tensor.placements, src_data_rank=None)


def clip_gradient(parameters: Iterable[nn.Parameter], largest: float) -> Float[Tensor, ""]:
    """Scale the gradient of all ``parameters`` to a norm of at most ``largest``; returns its norm before."""
    parameters = [parameter for parameter in parameters if parameter.grad is not None]
    if not any(map(is_shared_out, parameters)):
        return torch.nn.utils.clip_grad_norm_(parameters, largest)
    kinds = [[each for each in parameters if is_shared_out(each) == shared] for shared in (True, False)]
    kinds = [kind for kind in kinds if kind]
    gradients = ([each.grad for each in kind if each.grad is not None] for kind in kinds)
    norm = torch.stack([put_together(get_total_norm(each)) for each in gradients]).norm()
    for kind in kinds:
        clip_grads_with_norm_(kind, largest, norm)
    return norm
