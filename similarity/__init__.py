"""SimilarityMetric strategies, one file each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from swm.plugins.hookspecs import hookimpl
from swm.similarity.angular import Angular
from swm.similarity.cka import CKA
from swm.similarity.cosine import Cosine
from swm.similarity.kl import KL


@hookimpl
def swm_register(register: Callable[[Any], None]) -> None:
    for strategy in (Angular, CKA, Cosine, KL):
        register(strategy)
