"""Registers the rows of the model families that swm knows, the way a plugin registers its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from swm.builtin.families.dense import DENSE
from swm.builtin.families.early import EARLY
from swm.builtin.families.experts import EXPERTS
from swm.builtin.families.gguf import GGUF
from swm.builtin.families.hybrid import HYBRID
from swm.builtin.families.older import OLDER
from swm.builtin.families.towers import TOWERS
from swm.plugins.hookspecs import hookimpl

BUILTIN_FAMILIES = tuple(
    replace(
        family,
        gguf=tuple(row for row in GGUF if set(row.model_types) & set(family.model_types)),
        transformers_4={kind: OLDER[kind] for kind in family.model_types if kind in OLDER},
    )
    for family in (*DENSE, *EARLY, *EXPERTS, *HYBRID, *TOWERS)
)


@hookimpl
def swm_register(register: Callable[[Any], None]) -> None:
    for family in BUILTIN_FAMILIES:
        register(family)
