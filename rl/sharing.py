"""Which worlds of a run are this process's."""

from policies.training.group import Group, Part
from rl.config import RLConfig


def worlds_of(config: RLConfig, group: Group) -> Part:
    """Those of this process among all of a run's; ``ValueError`` where they cannot be shared out."""
    shards = shards_of(config, group)
    for what, count in (("shards", shards), ("processes", group.size)):
        if config.num_envs % (count * config.alike):
            alike = f" in groups of {config.alike}" if config.alike > 1 else ""
            raise ValueError(f"num_envs {config.num_envs}{alike} cannot be shared out to {count} {what}")
    if shards % group.size:
        raise ValueError(f"{shards} shards cannot be shared out to {group.size} processes")
    return group.part(config.num_envs)


def shards_of(config: RLConfig, group: Group) -> int:
    """How many shards there are in all processes."""
    return config.shards or group.size
