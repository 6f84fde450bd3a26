"""The conformance kit: `TestMine = checks_for(MyMetric)` in a test file is a class of pytest checks for a strategy.

The tiny random models that the checks run on are here too.
"""

from __future__ import annotations

import importlib.util

if importlib.util.find_spec("pytest") is None:
    raise ImportError("swm.testing needs pytest, which swm itself does not: pip install 'swm-pruning[kit]'")

from swm.testing.conformance import checks_for
from swm.testing.tiny import FAMILIES, VARIANTS, tiny_ids, tiny_model, tiny_tokenizer

__all__ = ["FAMILIES", "VARIANTS", "checks_for", "tiny_ids", "tiny_model", "tiny_tokenizer"]
