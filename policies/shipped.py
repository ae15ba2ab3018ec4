"""The policy that comes with the package, to act with as it is and to start from: see docs/models/tabletop.md."""

from pathlib import Path

SHIPPED = "shipped"
"""Names it wherever a policy's folder is asked for."""
FOLDER = Path(__file__).parent / "pretrained" / "tabletop"
