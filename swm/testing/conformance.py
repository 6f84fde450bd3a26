"""checks_for: pytest checks for one strategy."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

from swm.errors import PluginError, listed, quoted
from swm.interfaces.depth import DepthPruner
from swm.interfaces.executor import Executor
from swm.interfaces.expert_merger import ExpertMerger
from swm.interfaces.measure import Measure
from swm.interfaces.merger import LayerMerger
from swm.interfaces.provider import ModelProvider
from swm.interfaces.recovery import Recovery
from swm.interfaces.similarity import SimilarityMetric
from swm.interfaces.stage import Stage
from swm.interfaces.strategy import Strategy
from swm.interfaces.text import TextSource
from swm.interfaces.tracker import Tracker
from swm.interfaces.width import WidthPruner
from swm.model.families import ModelFamily
from swm.plugins.loading import load_plugins
from swm.plugins.registry import Registry
from swm.testing.checks import Checks
from swm.testing.depth import DepthChecks
from swm.testing.executor import ExecutorChecks
from swm.testing.expert_merger import ExpertMergerChecks
from swm.testing.family import family_checks
from swm.testing.measure import MeasureChecks
from swm.testing.merger import MergerChecks
from swm.testing.provider import ProviderChecks
from swm.testing.recovery import RecoveryChecks
from swm.testing.similarity import SimilarityChecks
from swm.testing.stage import StageChecks
from swm.testing.text import TextChecks
from swm.testing.tiny import EXPERTS, FAMILIES
from swm.testing.tracker import TrackerChecks
from swm.testing.width import WidthChecks

_CHECKS: dict[type[Strategy], type[Checks]] = {
    SimilarityMetric: SimilarityChecks,
    LayerMerger: MergerChecks,
    ExpertMerger: ExpertMergerChecks,
    DepthPruner: DepthChecks,
    WidthPruner: WidthChecks,
    Recovery: RecoveryChecks,
    Stage: StageChecks,
    TextSource: TextChecks,
    Measure: MeasureChecks,
    Tracker: TrackerChecks,
    Executor: ExecutorChecks,
    ModelProvider: ProviderChecks,
}


def checks_for(
    strategy: type[Strategy] | ModelFamily,
    *variants: Mapping[str, Any],
    families: Sequence[str] | None = None,
    also: Sequence[Any] = (),
    fresh_process: bool = True,
) -> type[Any]:
    """A class of pytest checks for a strategy or a family row; give it to a name that begins with Test.

        TestMine = checks_for(MyMetric, {}, {"power": 1.5})

    Args:
        strategy: The class, or a `ModelFamily`; then `variants` are values of the config of its first model type, for
            which the tiny shape will not do.
        variants: Parameters as in a recipe (none: the defaults). The first ones are tried on all `families`, the others
            on the first family.
        families: Tiny random models by `config.model_type` (none: the dense ones; for an expert merger, those with
            experts).
        also: Further classes to register, such as a stage's steps; what an installed plugin registers is known already.
        fresh_process: Whether results are loaded again in a fresh process, or in this one.

    Raises:
        PluginError: For a class of another kind.
    """
    if isinstance(strategy, ModelFamily):
        return family_checks(strategy, variants, fresh_process)
    kind = next((kind for kind in _CHECKS if isinstance(strategy, type) and issubclass(strategy, kind)), None)
    if kind is None or not dataclasses.is_dataclass(strategy):
        kinds = listed(each.__name__ for each in _CHECKS)
        raise PluginError(f"found {quoted(strategy)}; there are checks for dataclasses that are a {kinds}")
    values = {
        "strategy": strategy,
        "variants": variants or ({},),
        "families": families or (EXPERTS if kind is ExpertMerger else FAMILIES),
        "registry": _Lazy(strategy, tuple(also)),
        "fresh_process": fresh_process,
        "trials": {},
    }
    return type(f"{strategy.__name__}Checks", (_CHECKS[kind],), values)


class _Lazy:
    """The registry of the loaded plugins and the strategies under test, made when a test first asks for it."""

    def __init__(self, *strategies: Any) -> None:
        first, others = strategies
        self._strategies = (first, *others)

    def __get__(self, instance: object, owner: type) -> Registry:
        return self._registry

    @functools.cached_property
    def _registry(self) -> Registry:
        registry = load_plugins().registry
        for strategy in self._strategies:
            if strategy.name not in registry.names(strategy.kind):
                registry.register(strategy, "these tests")
        return registry
