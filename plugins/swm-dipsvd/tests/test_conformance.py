"""The stage passes the kit of swm on every family."""

from __future__ import annotations

from swm.testing import checks_for
from swm_dipsvd import LowRankStage

HALF = {"block_ratio": 0.5}
VARIANTS = (
    {"whitening": "channel-weighted", "allocation": "dip-heuristic", **HALF},
    {"whitening": {"name": "channel-weighted", "mode": "symmetric"}, "target": {"ratio": 0.2}},
    {"whitening": "cholesky", "target": {"params": 9000}},
    {"whitening": "absmean", "projections": ["mlp.down", "attention.o"], **HALF},
    {"whitening": "fisher", **HALF},
    {"whitening": "none", "allocation": [0.3, 0.4, 0.5, 0.5, 0.6, 0.7], **HALF},
)

TestLowRank = checks_for(LowRankStage, *VARIANTS)
