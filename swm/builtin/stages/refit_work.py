"""How much refits of projections in all layers compute."""

from __future__ import annotations

from collections.abc import Collection

from swm.fitting.products import fit_products
from swm.fitting.working_bytes import widest
from swm.interfaces.stage import Setting
from swm.interfaces.work import Work


def refit_work(setting: Setting, roles: Collection[str], searches_ridge: bool = True) -> Work:
    """Of a refit of these projections in every layer, each of which is run once for each of them.

    Args:
        setting: The model and the text.
        roles: The canonical names of the projections.
        searches_ridge: Whether the strength of the ridge is searched.
    """
    if setting.model is None:
        return Work(passes=len(roles))
    tokens, hidden = setting.samples * setting.seq_len, setting.model.config.hidden_size
    each = [fit_products(tokens, widest(setting.model, role), hidden, searches_ridge) for role in roles]
    return Work(passes=len(roles), products=sum(each) * setting.shape.layers)
