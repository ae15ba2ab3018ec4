"""What a network learns at once: its losses, each with sum and count, and how much each counts."""

from vla.objectives.terms import LossWeights, Term

__all__ = ["LossWeights", "Term"]
