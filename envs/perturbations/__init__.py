"""What a policy may meet that its demonstrations did not show: one typed spec, applied per world on either engine."""

from envs.perturbations.presets import PRESETS, axes
from envs.perturbations.spec import Perturbation

__all__ = ["PRESETS", "Perturbation", "axes"]
