"""swm: structured pruning of large language models.

The names below are the public interface. They are imported when they are first used, so `import swm` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from swm.budget import Target
    from swm.calibration import Calibration
    from swm.errors import SwmError
    from swm.families import ModelFamily
    from swm.hookspecs import hookimpl
    from swm.interfaces.depth import DepthContext, DepthProposal, DepthPruner
    from swm.interfaces.merger import LayerMerger, LayerWindow
    from swm.interfaces.provider import ModelProvider
    from swm.interfaces.rebuild import Rebuild, Replaced
    from swm.interfaces.recovery import Recovery, RecoveryContext
    from swm.interfaces.similarity import SampleMetric, SimilarityMetric
    from swm.interfaces.stage import Stage, StageContext, StagePlan, Step
    from swm.interfaces.text import Example, TextSource
    from swm.interfaces.tracker import Tracker
    from swm.interfaces.width import UnitGroup, WidthPruner
    from swm.pipeline import CompressionPipeline, RunResult, compress
    from swm.plan import Plan
    from swm.plugins import load_plugins
    from swm.recipe import Recipe, load_recipe
    from swm.registry import Registry
    from swm.replay import replay
    from swm.surgery import replace_projection
    from swm.training import TrainedRecovery, train
    from swm.view import ModelView
    from swm.windows import Window

_HOME = {
    "Tracker": "swm.interfaces.tracker",
    "replace_projection": "swm.surgery",
    "Replaced": "swm.interfaces.rebuild",
    "Rebuild": "swm.interfaces.rebuild",
    "Target": "swm.budget",
    "Calibration": "swm.calibration",
    "SwmError": "swm.errors",
    "ModelFamily": "swm.families",
    "hookimpl": "swm.hookspecs",
    "DepthContext": "swm.interfaces.depth",
    "DepthProposal": "swm.interfaces.depth",
    "DepthPruner": "swm.interfaces.depth",
    "LayerMerger": "swm.interfaces.merger",
    "LayerWindow": "swm.interfaces.merger",
    "ModelProvider": "swm.interfaces.provider",
    "Recovery": "swm.interfaces.recovery",
    "RecoveryContext": "swm.interfaces.recovery",
    "SampleMetric": "swm.interfaces.similarity",
    "SimilarityMetric": "swm.interfaces.similarity",
    "Stage": "swm.interfaces.stage",
    "StageContext": "swm.interfaces.stage",
    "StagePlan": "swm.interfaces.stage",
    "Step": "swm.interfaces.stage",
    "Example": "swm.interfaces.text",
    "TextSource": "swm.interfaces.text",
    "TrainedRecovery": "swm.training",
    "train": "swm.training",
    "UnitGroup": "swm.interfaces.width",
    "WidthPruner": "swm.interfaces.width",
    "CompressionPipeline": "swm.pipeline",
    "RunResult": "swm.pipeline",
    "compress": "swm.pipeline",
    "replay": "swm.replay",
    "Plan": "swm.plan",
    "load_plugins": "swm.plugins",
    "Recipe": "swm.recipe",
    "load_recipe": "swm.recipe",
    "Registry": "swm.registry",
    "ModelView": "swm.view",
    "Window": "swm.windows",
}

__all__ = [
    "Calibration",
    "CompressionPipeline",
    "DepthContext",
    "DepthProposal",
    "DepthPruner",
    "Example",
    "LayerMerger",
    "LayerWindow",
    "ModelFamily",
    "ModelProvider",
    "ModelView",
    "Plan",
    "Rebuild",
    "Recipe",
    "Recovery",
    "RecoveryContext",
    "Registry",
    "Replaced",
    "RunResult",
    "SampleMetric",
    "SimilarityMetric",
    "Stage",
    "StageContext",
    "StagePlan",
    "Step",
    "SwmError",
    "Target",
    "TextSource",
    "Tracker",
    "TrainedRecovery",
    "UnitGroup",
    "WidthPruner",
    "Window",
    "compress",
    "hookimpl",
    "load_plugins",
    "load_recipe",
    "replace_projection",
    "replay",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'swm' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOME[name]), name)
