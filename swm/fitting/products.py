"""How much a fit in closed form multiplies."""

from __future__ import annotations

from swm.fitting.refitting import FEW
from swm.fitting.ridge import GRID

# Measured on matrices of 256 to 1,536 rows, in multiplications of a product of matrices that takes the same time:
# eigenvectors, and a Cholesky factorisation, of a matrix of n rows take so many times n cubed.
EIGENVECTORS, CHOLESKY = 6.5, 0.35


def fit_products(tokens: int, inputs: int, outputs: int, searches_ridge: bool) -> float:
    """Multiplications of `fit_change`: the sums over tokens, and what is solved with them.

    Args:
        tokens: How many tokens are fitted to.
        inputs: The channels that enter the projection.
        outputs: Those that leave it.
        searches_ridge: Whether the strength of the ridge is searched.
    """
    if FEW * tokens <= inputs:
        search = (EIGENVECTORS * tokens + len(GRID) * outputs) * tokens**2 if searches_ridge else 0.0
        return search + tokens**2 * (2 * inputs + outputs + CHOLESKY * tokens) + tokens * inputs * outputs
    solution = CHOLESKY * inputs**3 + inputs**2 * outputs
    # The error of each solution takes another product.
    search = len(GRID) * (solution + inputs**2 * outputs)
    return tokens * inputs * (inputs + outputs) + solution + (search if searches_ridge else 0)
