"""How much memory a fit in closed form takes, whatever the length of the text."""

from __future__ import annotations

from swm.errors import FamilyError
from swm.fitting.refitting import CHUNK_PIECES, FEW, are_few
from swm.memory.pieces import PIECE_BYTES
from swm.model.units import features
from swm.model.view import ModelView

# So many pieces of tokens, each in float64, are there at once.
PIECES = 4
# A Gram matrix, the part that is fitted to, its eigenvectors, and the room to find them.
GRAM_MATRICES = 5


def fit_bytes(inputs: int, outputs: int, ridge: float | None, tokens: int) -> int:
    """Of `fit_change`: the sums over tokens `[inputs, inputs]` in float64 and what is made of them.

    Of few tokens, they themselves and their Gram matrix `[tokens, tokens]`.

    Args:
        inputs: The channels that enter the projection.
        outputs: Those that leave it.
        ridge: Its strength. The search for one, with None, needs the sums of two parts of the text; without any, with
            0, eigenvectors are needed, and twice their room to find them.
        tokens: How many there are.
    """
    if are_few(tokens, inputs, ridge):
        numbers = tokens * (inputs + 3 * outputs) + 2 * inputs * outputs + GRAM_MATRICES * tokens**2
        return 8 * numbers + PIECES * min(CHUNK_PIECES * PIECE_BYTES, 8 * tokens * (inputs + outputs))
    return sums_bytes(inputs, outputs, 3 if ridge is None else 5 if ridge == 0 else 2)


def refit_bytes(inputs: int, outputs: int, ridge: float | None, tokens: int) -> int:
    """Of `fit_without`, however many of the inputs stay; as `fit_bytes`.

    Args:
        inputs: All channels that enter the projection now.
        outputs: Those that leave it.
        ridge: As in `fit_bytes`.
        tokens: How many there are.
    """
    largest_sums = max(1, min(inputs, FEW * tokens - 1))
    return max(fit_bytes(size, outputs, ridge, tokens) for size in (inputs, largest_sums))


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
