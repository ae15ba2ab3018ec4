"""The backbone that comes with the package: ``nano``, which has learned to look at rendered tables.

It is what ``vla pretrain nano`` leaves, at ``vla/backbones/pretrained/nano``; docs/models/nano.md says how it was made.
"""

from pathlib import Path

from vla.adopting import check_base
from vla.base import Base, load_base
from vla.checkpoint import CheckpointError
from vla.config import BackboneConfig
from vla.saving import CONFIG_FILE, WEIGHTS_FILE

FOLDER = Path(__file__).parent / "backbones" / "pretrained" / "nano"
FRESH_INSTEAD = 'set weights="fresh" in the backbone\'s config (--backbone.weights fresh) to start from nothing'


def shipped_base(folder: Path | None = None) -> Base:
    """The package's own backbone; ``CheckpointError`` where the package lacks it, or where it is damaged."""
    folder = folder or FOLDER
    if missing := [name for name in (CONFIG_FILE, WEIGHTS_FILE) if not (folder / name).is_file()]:
        raise CheckpointError(
            f"this installation lacks its pre-trained backbone: no {' and no '.join(missing)} in {folder}"
        )
    return load_base(folder)


def shipped_for(config: BackboneConfig, vocabulary: str) -> Base:
    """The package's own backbone for one of ``config`` and ``vocabulary``.

    Errors say what to set: ``ValueError`` names the fields of ``config`` that differ, ``CheckpointError`` is that of
    :func:`shipped_base`.
    """
    try:
        base = shipped_base()
        check_base(config, base, vocabulary)
    except ValueError as error:
        kind = CheckpointError if isinstance(error, CheckpointError) else ValueError
        raise kind(f"a new network cannot start from the shipped weights: {error}\n{FRESH_INSTEAD}") from error
    return base
