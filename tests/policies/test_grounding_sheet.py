"""The sheet of scenes with sentences: the outline is the cover's, the cross is at the middle's pixel."""

import numpy as np
import pytest
import torch

from envs.specs import Asked, Grounding, Receivers, Told
from policies.showing.grounding import OUTLINE, grounding_sheet
from policies.showing.panels import MARGIN_PX


def grounding(sentences: int) -> Grounding:
    """Grey tables of 64 × 64 pixels in two views; the referent is a square in the first, and not seen in the other."""
    cover = torch.zeros(sentences, 2, 64, 64, dtype=torch.bool)
    cover[:, 0, 20:30, 40:50] = True
    pixel = torch.tensor([[45 / 32 - 1, 25 / 32 - 1], [3.0, 0.0]]).expand(sentences, 2, 2)
    return Grounding(
        images=torch.full((1, 2, 64, 64, 3), 90, dtype=torch.uint8),
        state=torch.zeros(1, 17),
        table=torch.zeros(sentences, dtype=torch.long),
        sentences=tuple(f"the cube number {i}" for i in range(sentences)),
        point_m=torch.zeros(sentences, 3),
        pixel=pixel,
        cover=cover,
        seen=torch.tensor([[True, False]]).expand(sentences, 2),
        receivers=Receivers(
            sentence=torch.zeros(0, dtype=torch.long),
            point_m=torch.zeros(0, 3),
            pixel=pixel[:0],
            cover=cover[:0],
            seen=torch.zeros(0, 2, dtype=torch.bool),
        ),
        told=Told(table=torch.zeros(0, dtype=torch.long), sentences=(), false=()),
        asked=Asked(table=torch.zeros(0, dtype=torch.long), questions=(), answers=()),
    )


def test_the_outline_and_the_middle_are_where_the_referent_is() -> None:
    sheet = grounding_sheet(grounding(1), 5)
    view = sheet[MARGIN_PX : MARGIN_PX + 256, MARGIN_PX : MARGIN_PX + 256]
    rows, columns = np.nonzero((view == OUTLINE).all(-1))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (80, 119, 160, 199)
    assert (view[100, 180] == 255).all() and (view[85, 165] == 90).all()
    other = sheet[MARGIN_PX + 40 : MARGIN_PX + 256, MARGIN_PX + 260 : MARGIN_PX + 516]
    assert (other == 90).all()


def test_sheets_grow_by_rows_and_are_never_empty() -> None:
    three, four = (grounding_sheet(grounding(4), count) for count in (3, 4))
    assert four.shape[1] == three.shape[1] and four.shape[0] > 1.8 * three.shape[0]
    with pytest.raises(ValueError, match="expected at least one sentence to show, got 0"):
        grounding_sheet(grounding(0), 3)
