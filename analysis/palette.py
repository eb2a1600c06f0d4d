"""How each solver is drawn and shortly named, the same in every chart of a report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import altair as alt

# Okabe and Ito's colours, which colour-blind readers can tell apart; without yellow, which is too faint on white
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#222222")
GREY = "#7F7F7F"  # of bounds and controls
SHAPES = {"circle": "\N{BLACK CIRCLE}", "square": "\N{BLACK SQUARE}", "triangle-up": "\N{BLACK UP-POINTING TRIANGLE}"}
DASHES = ([1, 0], [2, 2], [7, 2])
SOFT_DASHES = ([6, 4], [2, 3], [9, 3, 2, 3], [12, 3])


class Key(NamedTuple):
    """The colour, dash and shape that a solver is drawn with in every chart of a report, and its number there."""

    colour: str
    dash: list[int]
    shape: str
    number: int

    @property
    def sign(self) -> str:
        """The shape as a character."""
        return SHAPES[self.shape]


Palette = Mapping[str, Key]


def palette(solvers: Iterable[tuple[str, str]]) -> Palette:
    """A key for each solver. Methods have colours, the learned first; bounds and controls are grey.

    solvers: pairs of name and family.
    """
    ordered = sorted(set(solvers), key=lambda pair: (pair[1] != "learned", pair))
    rivals = [solver for solver, family in ordered if family in ("classical", "learned")]
    others = [solver for solver, family in ordered if family not in ("classical", "learned")]
    shapes = list(SHAPES)
    keys = {
        solver: Key(COLOURS[i % len(COLOURS)], DASHES[i // len(COLOURS) % 3], shapes[i // len(COLOURS) % 3], i)
        for i, solver in enumerate(rivals)
    }
    return keys | {
        solver: Key(GREY, SOFT_DASHES[i % len(SOFT_DASHES)], shapes[i % 3], len(rivals) + i)
        for i, solver in enumerate(others)
    }


def dash(palette: Palette) -> Any:
    """The encoding of solvers as dashes."""
    scale = alt.Scale(domain=list(palette), range=[key.dash for key in palette.values()])
    return alt.StrokeDash("solver:N", scale=scale, legend=None)


def colour(palette: Palette) -> Any:
    """The encoding of solvers as colours."""
    scale = alt.Scale(domain=list(palette), range=[key.colour for key in palette.values()])
    return alt.Color("solver:N", scale=scale, legend=None)


def shape(palette: Palette) -> Any:
    """The encoding of solvers as shapes."""
    scale = alt.Scale(domain=list(palette), range=[key.shape for key in palette.values()])
    return alt.Shape("solver:N", scale=scale, legend=None)
