"""How much memory a fit in closed form takes, whatever the length of the text."""

from __future__ import annotations

from swm.errors import FamilyError
from swm.fitting.refitting import CHUNK_PIECES
from swm.memory.pieces import PIECE_BYTES
from swm.model.units import features
from swm.model.view import ModelView

# So many pieces of tokens, each in float64, are there at once.
PIECES = 4


def fit_bytes(inputs: int, outputs: int, searches_ridge: bool) -> int:
    """Of `fit_change`: the sums over tokens `[inputs, inputs]` in float64 and what is made of them.

    The search for a ridge needs sums over two parts of the text, and eigenvectors with twice their room to find them.
    """
    matrices = 5 if searches_ridge else 3
    return 8 * (matrices * inputs**2 + 4 * inputs * outputs) + PIECES * CHUNK_PIECES * PIECE_BYTES


def widest(model: ModelView, role: str) -> int:
    """The most inputs that a projection of this role has in any layer; 0 where none has one. Needs no weights."""
    layers = [model.layer(position) for position in range(len(model.layers))]
    try:
        return max((features(layer.projection(role))[0] for layer in layers if layer.has(role)), default=0)
    except FamilyError:
        return 0
