"""Colours by the names that instructions use."""

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.85, 0.08, 0.08),
    "green": (0.10, 0.65, 0.15),
    "blue": (0.08, 0.20, 0.85),
    "yellow": (0.95, 0.85, 0.08),
    "purple": (0.55, 0.12, 0.70),
    "cyan": (0.10, 0.80, 0.85),
    "white": (0.95, 0.95, 0.95),
    "black": (0.06, 0.06, 0.06),
    "grey": (0.45, 0.47, 0.50),
    "brown": (0.45, 0.29, 0.16),
}
COLOUR_NAMES = tuple(COLOURS)

BRIGHT = ("red", "green", "blue", "yellow", "purple", "cyan")
"""What things to be handled are painted in."""
PLAIN = ("white", "black")
"""What receivers are painted in."""
