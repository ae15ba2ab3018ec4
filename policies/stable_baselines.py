"""Networks that stable-baselines3 trained, read from its zip files without its code: nothing pickled is executed.

Of the file's parts two are read: ``data``, JSON whose pickles stay the text that they are, and ``policy.pth``, tensors.
The latter is torch's own format, a pickle; its reader for tensors alone (``weights_only``) builds nothing else of it.
"""

import io
import json
import re
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from envs.specs import COMMAND_KEY, ENVIRONMENT_STATE_KEY, STATE_KEY, EmbodimentSpec
from policies.state_policy import SPREAD, StateNetwork, StateNetworkConfig, StatePolicy
from vla.checkpoint import CheckpointError
from vla.heads.gaussian import freely

SETTINGS_PART, WEIGHTS_PART = "data", "policy.pth"
PART_LIMIT_BYTES = 2**28
"""Longer parts are not read: a small file can unpack to any size."""
KEYS = {key.replace(".", "_"): key for key in (STATE_KEY, COMMAND_KEY, ENVIRONMENT_STATE_KEY)}
"""Our keys by what ``envs/sb3.py`` calls them."""
POLICIES = "stable_baselines3.common.policies"
"""The module of the policies of PPO and A2C."""
PLAIN_SETTINGS = {"net_arch", "activation_fn", "ortho_init", "log_std_init", "full_std", "use_expln"} | {
    *("normalize_images", "share_features_extractor", "optimizer_class", "optimizer_kwargs", ":type:", ":serialized:")
}
"""Settings of a policy that leave its mean action an MLP of the observation."""
TANH = "<class 'torch.nn.modules.activation.Tanh'>"
HIDDEN, LAST, LOG_STD = "mlp_extractor.policy_net", "action_net", "log_std"
CRITIC = ("mlp_extractor.value_net.", "value_net.")


@dataclass(frozen=True, kw_only=True)
class BaselineActor:
    """The actor of a PPO (or A2C) of stable-baselines3: ``network`` on the observation's ``keys`` side by side."""

    network: StateNetwork
    keys: tuple[str, ...]

    @property
    def privileged(self) -> bool:
        """Whether it sees what only the simulator knows."""
        return ENVIRONMENT_STATE_KEY in self.keys

    def acting(self, embodiment: EmbodimentSpec) -> StatePolicy:
        """Its mean action, cut off at −1 … 1, in the units of a robot; ``ValueError`` for one of other dimensions."""
        if self.network.action_dim != embodiment.action_dim:
            raise ValueError(
                f"the network has {self.network.action_dim} actions, {embodiment.name} has {embodiment.action_dim}"
            )
        return StatePolicy(self.network, self.keys, replace(embodiment, cameras=()))


def read_actor(path: Path) -> BaselineActor:
    """The actor in a file that ``model.save`` of stable-baselines3 wrote, of a model trained in ``envs/sb3.py``.

    Its policy is an MlpPolicy or MultiInputPolicy with tanh and layers of one width, its actions are of −1 … 1.
    ``CheckpointError`` says what else came; so too for a model behind VecNormalize, whose averages are not in the file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            settings, stored = _part(archive, SETTINGS_PART), _part(archive, WEIGHTS_PART)
    except (OSError, KeyError, zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError) as error:
        raise CheckpointError(f"expected a zip of stable-baselines3 at {path}: {error}") from error
    try:
        keys = _seen(_checked_settings(json.loads(settings)))
        return BaselineActor(network=_network(_weights(stored)), keys=keys)
    except _OtherModelError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: {error!r}") from error


class _OtherModelError(Exception):
    """What was expected of the model, and what came."""


def _part(archive: zipfile.ZipFile, name: str) -> bytes:
    part = archive.getinfo(name)
    if part.file_size > PART_LIMIT_BYTES:  # what is read is never longer than this says
        raise zipfile.BadZipFile(f"{name} is longer than {PART_LIMIT_BYTES} bytes")
    return archive.read(part)


def _checked_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """``settings``, unless what they say makes the mean action anything but an MLP with tanh."""
    policy, given = settings["policy_class"].get("__module__"), settings["policy_kwargs"] or {}
    if policy != POLICIES:
        raise _OtherModelError(f"expected a policy of {POLICIES}, got one of {policy}")
    if settings.get("use_sde"):
        raise _OtherModelError("expected a model without use_sde")
    if other := sorted(given.keys() - PLAIN_SETTINGS):
        raise _OtherModelError(f"expected a policy without {', '.join(other)} among its policy_kwargs")
    if (activation := given.get("activation_fn", TANH)) != TANH:
        raise _OtherModelError(f"expected the activation {TANH}, got {activation}")
    if settings.get("_last_original_obs") is not None:
        raise _OtherModelError(
            "expected a model that sees observations as they are; this one was trained behind VecNormalize, whose "
            "averages lie in a pickle elsewhere, which is not read"
        )
    return settings


def _seen(settings: dict[str, Any]) -> tuple[str, ...]:
    """The keys of what the model sees, in its order; also checks that its actions are of −1 … 1."""
    low, high = (_bounds(settings["action_space"].get(name)) for name in ("low", "high"))
    if (low, high) != ({-1.0}, {1.0}):
        raise _OtherModelError(f"expected actions of -1 … 1, as envs/sb3.py scales them, got {low} … {high}")
    space = settings["observation_space"]
    if "spaces" not in space:
        if len(space["_shape"] or ()) != 1:
            raise _OtherModelError(f"expected observations that are one row of numbers, got {space['_shape']}")
        return (STATE_KEY,)
    names = re.findall(r"'(\w+)'", str(space["spaces"]))
    if not names or not set(names) <= KEYS.keys():
        raise _OtherModelError(f"expected observations of {_listed(KEYS)}, got {_listed(names) or 'none'}")
    return tuple(KEYS[name] for name in names)


def _bounds(text: Any) -> set[float]:
    """The numbers in a printed array; none where it is no array of numbers."""
    try:
        return {float(number) for number in str(text).strip("[]").split()}
    except ValueError:
        return set()


def _weights(stored: bytes) -> dict[str, Tensor]:
    """Tensors alone: ``weights_only`` refuses a pickle that names anything else."""
    try:
        weights = torch.load(io.BytesIO(stored), map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise _OtherModelError(f"expected plain tensors in {WEIGHTS_PART}: {reason}") from error
    if not isinstance(weights, Mapping) or not all(isinstance(weight, Tensor) for weight in weights.values()):
        raise _OtherModelError(f"expected named tensors in {WEIGHTS_PART}, got {type(weights).__name__}")
    return dict(weights)


def _network(weights: dict[str, Tensor]) -> StateNetwork:
    """The actor's layers in a network of ours."""
    layers = 0
    while f"{HIDDEN}.{2 * layers}.weight" in weights:
        layers += 1
    if not layers or f"{LAST}.weight" not in weights:
        raise _OtherModelError(f"expected layers {HIDDEN} and {LAST}, got {_listed(weights)}")
    theirs = [f"{HIDDEN}.{2 * layer}" for layer in range(layers)] + [LAST]
    names = {f"layers.{2 * i}.{part}": f"{name}.{part}" for i, name in enumerate(theirs) for part in ("weight", "bias")}
    names[SPREAD] = LOG_STD
    if unknown := [name for name in weights if name not in names.values() and not name.startswith(CRITIC)]:
        raise _OtherModelError(f"expected an MLP and nothing else, got {_listed(unknown)}")
    if lacking := [name for name in names.values() if name not in weights]:
        raise _OtherModelError(f"{WEIGHTS_PART} lacks {_listed(lacking)}")
    taken = {ours: _usable(name, weights[name]) for ours, name in names.items()}
    taken[SPREAD] = freely(taken[SPREAD])[None]
    return _filled(taken, layers)


def _filled(taken: dict[str, Tensor], layers: int) -> StateNetwork:
    """A network of the tensors' sizes with ``taken`` in it, which has seen nothing to scale inputs by."""
    first, last = taken["layers.0.weight"], taken[f"layers.{2 * layers}.weight"]
    if first.ndim != 2 or last.ndim != 2:
        raise _OtherModelError(f"expected matrices, got {tuple(first.shape)} and {tuple(last.shape)}")
    network = StateNetwork(StateNetworkConfig(width=len(first), layers=layers), first.shape[1], len(last))
    for name, tensor in network.state_dict().items():
        if name in taken and taken[name].shape != tensor.shape:
            expected, got = tuple(tensor.shape), tuple(taken[name].shape)
            raise _OtherModelError(f"expected layers of one width, and so {name} {expected}, got {got}")
    network.load_state_dict({**network.state_dict(), **taken})
    return network.requires_grad_(False)


def _usable(name: str, tensor: Tensor) -> Tensor:
    if tensor.dtype != torch.float32 or not tensor.is_contiguous() or not bool(tensor.isfinite().all()):
        raise _OtherModelError(f"expected finite numbers of 32 bits in {name}, got {tensor.dtype}")
    return tensor.detach()


def _listed(names: Any) -> str:
    shown = sorted(str(name) for name in names)
    return ", ".join(shown[:4]) + (f" and {len(shown) - 4} more" if len(shown) > 4 else "")
