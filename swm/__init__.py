"""swm: structured pruning of large language models.

The names below are the public interface. They are imported when they are first used, so `import swm` costs nothing.
"""

from __future__ import annotations

import importlib

from swm.version import __version__ as __version__

# Without typing's constant: `python -m swm` reads this file while the working folder is on the path.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from swm.cache.observations import Observation
    from swm.errors import (
        BudgetError,
        FamilyError,
        HubError,
        ModelError,
        PlanError,
        RecipeError,
        RecoveryError,
        SwmError,
        at,
        unknown,
    )
    from swm.files.cache_folder import cache_folder
    from swm.hub.pushing import push
    from swm.interfaces.activations import WindowActivations
    from swm.interfaces.depth import DepthContext, DepthProposal, DepthPruner
    from swm.interfaces.executor import Executor
    from swm.interfaces.expert_merger import ExpertChoice, ExpertMerger
    from swm.interfaces.merger import LayerMerger, LayerWindow
    from swm.interfaces.progress import Progress, Task
    from swm.interfaces.provider import ModelProvider
    from swm.interfaces.recovery import Recovery, RecoveryContext
    from swm.interfaces.similarity import SampleMetric, SimilarityMetric, TokenMetric
    from swm.interfaces.stage import Setting, Stage, StageContext, StagePlan, Step
    from swm.interfaces.strategy import Strategy
    from swm.interfaces.target import Target
    from swm.interfaces.text import Calibration, Example, TextSource
    from swm.interfaces.tracker import Tracker
    from swm.interfaces.width import CoupledWeight, Need, RoutingStatistics, UnitGroup, WidthPruner
    from swm.model.families import ModelFamily
    from swm.model.ranges import format_ranges
    from swm.model.recording import Recording
    from swm.model.replacement import Rebuild, Replaced
    from swm.model.samples import Samples
    from swm.model.shape import ModelShape
    from swm.model.surgery import positions, replace_projection, set_parameter
    from swm.model.units import features
    from swm.model.view import ModelView
    from swm.model.windows import End, Window, windows_without
    from swm.plan.plan import Plan
    from swm.plugins.hookspecs import hookimpl
    from swm.plugins.loading import load_plugins
    from swm.plugins.registry import Registry
    from swm.provenance.dependencies import code_of, own_code
    from swm.recipe.loading import load_recipe
    from swm.recipe.recipe import Recipe
    from swm.run.evaluation import evaluate
    from swm.run.inspecting import inspect
    from swm.run.pipeline import CompressionPipeline, compress
    from swm.run.replay import replay
    from swm.run.result import RunResult
    from swm.study.studies import run_study
    from swm.training.loop import train
    from swm.training.next_token import next_token_loss
    from swm.training.trained_recovery import TrainedRecovery
    from swm.width.gradients import layer_gradients

_HOME = {
    "ModelShape": "swm.model.shape",
    "Target": "swm.interfaces.target",
    "Calibration": "swm.interfaces.text",
    "BudgetError": "swm.errors",
    "FamilyError": "swm.errors",
    "HubError": "swm.errors",
    "ModelError": "swm.errors",
    "PlanError": "swm.errors",
    "RecipeError": "swm.errors",
    "RecoveryError": "swm.errors",
    "SwmError": "swm.errors",
    "at": "swm.errors",
    "code_of": "swm.provenance.dependencies",
    "own_code": "swm.provenance.dependencies",
    "unknown": "swm.errors",
    "ModelFamily": "swm.model.families",
    "hookimpl": "swm.plugins.hookspecs",
    "Executor": "swm.interfaces.executor",
    "DepthContext": "swm.interfaces.depth",
    "DepthProposal": "swm.interfaces.depth",
    "DepthPruner": "swm.interfaces.depth",
    "End": "swm.model.windows",
    "WindowActivations": "swm.interfaces.activations",
    "ExpertChoice": "swm.interfaces.expert_merger",
    "ExpertMerger": "swm.interfaces.expert_merger",
    "LayerMerger": "swm.interfaces.merger",
    "LayerWindow": "swm.interfaces.merger",
    "ModelProvider": "swm.interfaces.provider",
    "Rebuild": "swm.model.replacement",
    "Replaced": "swm.model.replacement",
    "Recovery": "swm.interfaces.recovery",
    "RecoveryContext": "swm.interfaces.recovery",
    "SampleMetric": "swm.interfaces.similarity",
    "SimilarityMetric": "swm.interfaces.similarity",
    "Setting": "swm.interfaces.stage",
    "Stage": "swm.interfaces.stage",
    "StageContext": "swm.interfaces.stage",
    "StagePlan": "swm.interfaces.stage",
    "Step": "swm.interfaces.stage",
    "Strategy": "swm.interfaces.strategy",
    "Example": "swm.interfaces.text",
    "TextSource": "swm.interfaces.text",
    "TokenMetric": "swm.interfaces.similarity",
    "Tracker": "swm.interfaces.tracker",
    "CoupledWeight": "swm.interfaces.width",
    "Need": "swm.interfaces.width",
    "RoutingStatistics": "swm.interfaces.width",
    "UnitGroup": "swm.interfaces.width",
    "WidthPruner": "swm.interfaces.width",
    "cache_folder": "swm.files.cache_folder",
    "CompressionPipeline": "swm.run.pipeline",
    "RunResult": "swm.run.result",
    "compress": "swm.run.pipeline",
    "evaluate": "swm.run.evaluation",
    "inspect": "swm.run.inspecting",
    "Plan": "swm.plan.plan",
    "load_plugins": "swm.plugins.loading",
    "Progress": "swm.interfaces.progress",
    "Task": "swm.interfaces.progress",
    "format_ranges": "swm.model.ranges",
    "Observation": "swm.cache.observations",
    "Recipe": "swm.recipe.recipe",
    "load_recipe": "swm.recipe.loading",
    "next_token_loss": "swm.training.next_token",
    "Registry": "swm.plugins.registry",
    "replay": "swm.run.replay",
    "layer_gradients": "swm.width.gradients",
    "positions": "swm.model.surgery",
    "push": "swm.hub.pushing",
    "replace_projection": "swm.model.surgery",
    "set_parameter": "swm.model.surgery",
    "TrainedRecovery": "swm.training.trained_recovery",
    "train": "swm.training.loop",
    "features": "swm.model.units",
    "ModelView": "swm.model.view",
    "Recording": "swm.model.recording",
    "Samples": "swm.model.samples",
    "Window": "swm.model.windows",
    "run_study": "swm.study.studies",
    "windows_without": "swm.model.windows",
}

__all__ = [
    "BudgetError",
    "Calibration",
    "CompressionPipeline",
    "CoupledWeight",
    "DepthContext",
    "DepthProposal",
    "DepthPruner",
    "End",
    "Example",
    "Executor",
    "ExpertChoice",
    "ExpertMerger",
    "FamilyError",
    "HubError",
    "LayerMerger",
    "LayerWindow",
    "ModelError",
    "ModelFamily",
    "ModelProvider",
    "ModelShape",
    "ModelView",
    "Need",
    "Observation",
    "Plan",
    "PlanError",
    "Progress",
    "Rebuild",
    "Recipe",
    "RecipeError",
    "Recording",
    "Recovery",
    "RecoveryContext",
    "RecoveryError",
    "Registry",
    "Replaced",
    "RoutingStatistics",
    "RunResult",
    "SampleMetric",
    "Samples",
    "Setting",
    "SimilarityMetric",
    "Stage",
    "StageContext",
    "StagePlan",
    "Step",
    "Strategy",
    "SwmError",
    "Target",
    "Task",
    "TextSource",
    "TokenMetric",
    "Tracker",
    "TrainedRecovery",
    "UnitGroup",
    "WidthPruner",
    "Window",
    "WindowActivations",
    "at",
    "cache_folder",
    "code_of",
    "compress",
    "evaluate",
    "features",
    "format_ranges",
    "hookimpl",
    "inspect",
    "layer_gradients",
    "load_plugins",
    "load_recipe",
    "next_token_loss",
    "own_code",
    "positions",
    "push",
    "replace_projection",
    "replay",
    "run_study",
    "set_parameter",
    "train",
    "unknown",
    "windows_without",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'swm' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOME[name]), name)
