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

    from swm.cache.observations import Observation as Observation
    from swm.choosing.auto import auto as auto
    from swm.choosing.auto import choose_recipe as choose_recipe
    from swm.choosing.result import AutoResult as AutoResult
    from swm.choosing.result import Choice as Choice
    from swm.errors import BudgetError as BudgetError
    from swm.errors import FamilyError as FamilyError
    from swm.errors import HubError as HubError
    from swm.errors import ModelError as ModelError
    from swm.errors import PlanError as PlanError
    from swm.errors import RecipeError as RecipeError
    from swm.errors import RecoveryError as RecoveryError
    from swm.errors import SwmError as SwmError
    from swm.errors import TextError as TextError
    from swm.errors import WorkerDiedError as WorkerDiedError
    from swm.errors import at as at
    from swm.errors import unknown as unknown
    from swm.files.cache_folder import cache_folder as cache_folder
    from swm.hub.pushing import push as push
    from swm.interfaces.activations import WindowActivations as WindowActivations
    from swm.interfaces.conversation import Conversation as Conversation
    from swm.interfaces.conversation import Conversations as Conversations
    from swm.interfaces.conversation import Message as Message
    from swm.interfaces.depth import DepthContext as DepthContext
    from swm.interfaces.depth import DepthProposal as DepthProposal
    from swm.interfaces.depth import DepthPruner as DepthPruner
    from swm.interfaces.depth import required_target as required_target
    from swm.interfaces.executor import Executor as Executor
    from swm.interfaces.executor import Job as Job
    from swm.interfaces.executor import Pool as Pool
    from swm.interfaces.executor import Row as Row
    from swm.interfaces.expert_merger import ExpertChoice as ExpertChoice
    from swm.interfaces.expert_merger import ExpertMerger as ExpertMerger
    from swm.interfaces.measure import Measure as Measure
    from swm.interfaces.measure import MeasureContext as MeasureContext
    from swm.interfaces.measure import Measurement as Measurement
    from swm.interfaces.merger import LayerMerger as LayerMerger
    from swm.interfaces.merger import LayerWindow as LayerWindow
    from swm.interfaces.metric import Metric as Metric
    from swm.interfaces.progress import Progress as Progress
    from swm.interfaces.progress import Task as Task
    from swm.interfaces.provider import ModelProvider as ModelProvider
    from swm.interfaces.recovery import Recovery as Recovery
    from swm.interfaces.recovery import RecoveryContext as RecoveryContext
    from swm.interfaces.similarity import SampleMetric as SampleMetric
    from swm.interfaces.similarity import SimilarityMetric as SimilarityMetric
    from swm.interfaces.similarity import TokenMetric as TokenMetric
    from swm.interfaces.stage import Setting as Setting
    from swm.interfaces.stage import Stage as Stage
    from swm.interfaces.stage import StageContext as StageContext
    from swm.interfaces.stage import StagePlan as StagePlan
    from swm.interfaces.stage import Step as Step
    from swm.interfaces.strategy import Strategy as Strategy
    from swm.interfaces.target import Target as Target
    from swm.interfaces.text import Calibration as Calibration
    from swm.interfaces.text import Example as Example
    from swm.interfaces.text import Share as Share
    from swm.interfaces.text import TextSource as TextSource
    from swm.interfaces.tokens_used import TokensUsed as TokensUsed
    from swm.interfaces.tracker import TrackedRun as TrackedRun
    from swm.interfaces.tracker import Tracker as Tracker
    from swm.interfaces.width import CoupledWeight as CoupledWeight
    from swm.interfaces.width import InputStatistics as InputStatistics
    from swm.interfaces.width import Need as Need
    from swm.interfaces.width import RoutingStatistics as RoutingStatistics
    from swm.interfaces.width import UnitGroup as UnitGroup
    from swm.interfaces.width import WidthPruner as WidthPruner
    from swm.model.families import ModelFamily as ModelFamily
    from swm.model.gguf_architecture import GgufArchitecture as GgufArchitecture
    from swm.model.ranges import format_ranges as format_ranges
    from swm.model.recording import Recording as Recording
    from swm.model.replacement import Rebuild as Rebuild
    from swm.model.replacement import Replaced as Replaced
    from swm.model.samples import Samples as Samples
    from swm.model.shape import ModelShape as ModelShape
    from swm.model.surgery import positions as positions
    from swm.model.surgery import replace_projection as replace_projection
    from swm.model.surgery import set_parameter as set_parameter
    from swm.model.units import features as features
    from swm.model.view import ModelView as ModelView
    from swm.model.windows import End as End
    from swm.model.windows import Window as Window
    from swm.model.windows import windows_without as windows_without
    from swm.pieces.comparing import layer_similarity as layer_similarity
    from swm.pieces.layers import merge_layers as merge_layers
    from swm.pieces.layers import remove_layers as remove_layers
    from swm.pieces.saving import apply_plan as apply_plan
    from swm.pieces.saving import save as save
    from swm.pieces.units import keep_units as keep_units
    from swm.pieces.units import score_units as score_units
    from swm.plan.plan import Plan as Plan
    from swm.plugins.hookspecs import hookimpl as hookimpl
    from swm.plugins.loading import load_plugins as load_plugins
    from swm.plugins.registry import Registry as Registry
    from swm.provenance.dependencies import code_of as code_of
    from swm.provenance.dependencies import own_code as own_code
    from swm.recipe.loading import load_recipe as load_recipe
    from swm.recipe.recipe import Recipe as Recipe
    from swm.run.evaluation import evaluate as evaluate
    from swm.run.inspecting import inspect as inspect
    from swm.run.pipeline import CompressionPipeline as CompressionPipeline
    from swm.run.pipeline import compress as compress
    from swm.run.replay import replay as replay
    from swm.run.result import RunResult as RunResult
    from swm.study.studies import run_study as run_study
    from swm.training.loop import train as train
    from swm.training.next_token import next_token_loss as next_token_loss
    from swm.training.trained_recovery import TrainedRecovery as TrainedRecovery
    from swm.width.gradients import layer_gradients as layer_gradients

_HOME = {
    "Observation": "swm.cache.observations",
    "auto": "swm.choosing.auto",
    "choose_recipe": "swm.choosing.auto",
    "AutoResult": "swm.choosing.result",
    "Choice": "swm.choosing.result",
    "BudgetError": "swm.errors",
    "FamilyError": "swm.errors",
    "HubError": "swm.errors",
    "ModelError": "swm.errors",
    "PlanError": "swm.errors",
    "RecipeError": "swm.errors",
    "RecoveryError": "swm.errors",
    "SwmError": "swm.errors",
    "TextError": "swm.errors",
    "WorkerDiedError": "swm.errors",
    "at": "swm.errors",
    "unknown": "swm.errors",
    "cache_folder": "swm.files.cache_folder",
    "push": "swm.hub.pushing",
    "WindowActivations": "swm.interfaces.activations",
    "Conversation": "swm.interfaces.conversation",
    "Conversations": "swm.interfaces.conversation",
    "Message": "swm.interfaces.conversation",
    "DepthContext": "swm.interfaces.depth",
    "DepthProposal": "swm.interfaces.depth",
    "DepthPruner": "swm.interfaces.depth",
    "required_target": "swm.interfaces.depth",
    "Executor": "swm.interfaces.executor",
    "Job": "swm.interfaces.executor",
    "Pool": "swm.interfaces.executor",
    "Row": "swm.interfaces.executor",
    "ExpertChoice": "swm.interfaces.expert_merger",
    "ExpertMerger": "swm.interfaces.expert_merger",
    "Measure": "swm.interfaces.measure",
    "MeasureContext": "swm.interfaces.measure",
    "Measurement": "swm.interfaces.measure",
    "LayerMerger": "swm.interfaces.merger",
    "LayerWindow": "swm.interfaces.merger",
    "Metric": "swm.interfaces.metric",
    "Progress": "swm.interfaces.progress",
    "Task": "swm.interfaces.progress",
    "ModelProvider": "swm.interfaces.provider",
    "Recovery": "swm.interfaces.recovery",
    "RecoveryContext": "swm.interfaces.recovery",
    "SampleMetric": "swm.interfaces.similarity",
    "SimilarityMetric": "swm.interfaces.similarity",
    "TokenMetric": "swm.interfaces.similarity",
    "Setting": "swm.interfaces.stage",
    "Stage": "swm.interfaces.stage",
    "StageContext": "swm.interfaces.stage",
    "StagePlan": "swm.interfaces.stage",
    "Step": "swm.interfaces.stage",
    "Strategy": "swm.interfaces.strategy",
    "Target": "swm.interfaces.target",
    "Calibration": "swm.interfaces.text",
    "Example": "swm.interfaces.text",
    "Share": "swm.interfaces.text",
    "TextSource": "swm.interfaces.text",
    "TokensUsed": "swm.interfaces.tokens_used",
    "TrackedRun": "swm.interfaces.tracker",
    "Tracker": "swm.interfaces.tracker",
    "CoupledWeight": "swm.interfaces.width",
    "InputStatistics": "swm.interfaces.width",
    "Need": "swm.interfaces.width",
    "RoutingStatistics": "swm.interfaces.width",
    "UnitGroup": "swm.interfaces.width",
    "WidthPruner": "swm.interfaces.width",
    "ModelFamily": "swm.model.families",
    "GgufArchitecture": "swm.model.gguf_architecture",
    "format_ranges": "swm.model.ranges",
    "Recording": "swm.model.recording",
    "Rebuild": "swm.model.replacement",
    "Replaced": "swm.model.replacement",
    "Samples": "swm.model.samples",
    "ModelShape": "swm.model.shape",
    "positions": "swm.model.surgery",
    "replace_projection": "swm.model.surgery",
    "set_parameter": "swm.model.surgery",
    "features": "swm.model.units",
    "ModelView": "swm.model.view",
    "End": "swm.model.windows",
    "Window": "swm.model.windows",
    "windows_without": "swm.model.windows",
    "layer_similarity": "swm.pieces.comparing",
    "merge_layers": "swm.pieces.layers",
    "remove_layers": "swm.pieces.layers",
    "apply_plan": "swm.pieces.saving",
    "save": "swm.pieces.saving",
    "keep_units": "swm.pieces.units",
    "score_units": "swm.pieces.units",
    "Plan": "swm.plan.plan",
    "hookimpl": "swm.plugins.hookspecs",
    "load_plugins": "swm.plugins.loading",
    "Registry": "swm.plugins.registry",
    "code_of": "swm.provenance.dependencies",
    "own_code": "swm.provenance.dependencies",
    "load_recipe": "swm.recipe.loading",
    "Recipe": "swm.recipe.recipe",
    "evaluate": "swm.run.evaluation",
    "inspect": "swm.run.inspecting",
    "CompressionPipeline": "swm.run.pipeline",
    "compress": "swm.run.pipeline",
    "replay": "swm.run.replay",
    "RunResult": "swm.run.result",
    "run_study": "swm.study.studies",
    "train": "swm.training.loop",
    "next_token_loss": "swm.training.next_token",
    "TrainedRecovery": "swm.training.trained_recovery",
    "layer_gradients": "swm.width.gradients",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'swm' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
