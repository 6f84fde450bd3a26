"""How much memory a fit in closed form takes, whatever the length of the text."""

from __future__ import annotations

from swm.errors import FamilyError
from swm.fitting.refitting import CHUNK_PIECES
from swm.memory.pieces import PIECE_BYTES
from swm.model.units import features
from swm.model.view import ModelView

# So many pieces of tokens, each in float64, are there at once.
PIECES = 4


def fit_bytes(inputs: int, outputs: int, ridge: float | None) -> int:
    """Of `fit_change`: the sums over tokens `[inputs, inputs]` in float64 and what is made of them.

    Args:
        inputs: The channels that enter the projection.
        outputs: Those that leave it.
        ridge: Its strength. The search for one, with None, needs the sums of two parts of the text; without any, with
            0, eigenvectors are needed, and twice their room to find them.
    """
    return sums_bytes(inputs, outputs, 3 if ridge is None else 5 if ridge == 0 else 2)


def sums_bytes(inputs: int, outputs: int, matrices: int) -> int:
    """Of so many matrices `[inputs, inputs]` in float64, and what stands beside them."""
    return 8 * (matrices * inputs**2 + 3 * inputs * outputs) + PIECES * CHUNK_PIECES * PIECE_BYTES


def widest(model: ModelView, role: str) -> int:
    """The most inputs that a projection of this role has in any layer; 0 where none has one. Needs no weights."""
    layers = [model.layer(position) for position in range(len(model.layers))]
    try:
        return max((features(layer.projection(role))[0] for layer in layers if layer.has(role)), default=0)
    except FamilyError:
        return 0
