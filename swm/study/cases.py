"""Cases: the recipes that a study consists of, each with a name that depends on its content alone."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from swm.errors import RecipeError, SwmError
from swm.interfaces.progress import Silent
from swm.interfaces.stage import Stage
from swm.interfaces.strategy import Strategy
from swm.plugins.loading import Plugins
from swm.provenance.dependencies import code_of
from swm.provenance.source_code import file_hash
from swm.recipe.recipe import Recipe, build_recipe
from swm.run.preparation import prepare
from swm.study.description import LoadedStudy, Study
from swm.study.grid import combinations
from swm.study.naming import BASE, INSTEAD, told

Kind = Literal["dense", "run", "trivial", "baseline"]
"""The original model; a method; a method that is there to be beaten; and one that the study added for that."""
# What has no part in a result.
ASIDE = ("output", "trackers", "plugins")


@dataclass(frozen=True)
class Case:
    """One recipe of a study. `axes` are the values of the varied keys, `recipe` is plain and complete.

    `group` is the same for all seeds; `follows` tells that its target is what another case removed, by that one's id.
    """

    id: str
    kind: Kind
    name: str
    recipe: Mapping[str, Any]
    axes: Mapping[str, Any]
    seed: int
    group: str = ""
    dense: str = ""
    follows: str = ""


@dataclass
class Cases:
    """All cases that are known before the first is run, the original model's first."""

    cases: list[Case] = field(default_factory=list)
    unmatched: dict[str, list[tuple[str, dict[str, Any]]]] = field(default_factory=dict)
    """Baselines by the id of the case that must tell how much they remove."""
    left_out: list[str] = field(default_factory=list)
    """Baselines that the study would have added, and why they cannot be run."""


class CaseMaker:
    """Makes cases of plain recipes."""

    def __init__(self, loaded: LoadedStudy) -> None:
        self._plugins = loaded.plugins
        self._study = loaded.study
        self._plugin_files = frozenset(loaded.plugin_files)
        self._files = [file_hash(Path(file)) for file in loaded.plugin_files]

    def make(self, data: Mapping[str, Any], axes: Mapping[str, Any], kind: Kind = "run", name: str = "") -> Case:
        """A case of a recipe; `axes` name it. Raises RecipeError for a recipe that is wrong."""
        recipe = self.build(data)
        resolved = recipe.resolved()
        plain = {key: value for key, value in resolved.items() if key not in ASIDE}
        name = ", ".join(filter(None, [name, told(axes)])) or BASE
        if self._study.repeat > 1:
            name = f"{name}, seed {recipe.seed}"
        dense = self._digest({k: plain.get(k) for k in DENSE_KEYS} | {"evaluate": _evaluated(plain)}, recipe.evaluate)
        group = self._digest({key: value for key, value in plain.items() if key != "seed"}, recipe)
        return Case(self._digest(plain, recipe), kind, name, plain, dict(axes), recipe.seed, group, f"dense-{dense}")

    def build(self, data: Mapping[str, Any]) -> Recipe:
        """The recipe, validated."""
        return build_recipe({key: value for key, value in data.items() if key not in ASIDE}, self._plugins)

    def dense(self, case: Case) -> Case:
        """The measurement of the original model that a case is compared with."""
        return Case(case.dense, "dense", "dense", case.recipe, {}, case.seed, case.dense)

    def is_baseline(self, data: Mapping[str, Any]) -> bool:
        """Whether every choice for which there are baselines is one."""
        recipe = self.build(data)
        chosen = [getattr(stage, key) for stage in recipe.stages for key, *_ in _replaceable(stage, self._plugins)]
        return bool(chosen) and all(strategy.is_baseline for strategy in chosen)

    def baselines(self, data: Mapping[str, Any], axes: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        """The recipe with every choice replaced by one that is there to be beaten, by name; none for such a recipe."""
        recipe = self.build(data)
        found = [list(_replaceable(stage, self._plugins)) for stage in recipe.stages]
        replaced = [
            f"stages.{i}.{stage.name}.{key}"
            for i, (stage, fields) in enumerate(zip(recipe.stages, found, strict=True))
            for key, *_ in fields
        ]
        place = told({key: axes[key] for key in axes if any(path.startswith(key) for path in replaced)})
        rounds = max((len(names) for fields in found for _, names, _ in fields), default=0)
        if self.is_baseline(data):
            return
        for turn in range(rounds):
            plain = copy.deepcopy(self.build(data).resolved())
            used: list[str] = []
            for entry, stage, fields in zip(plain["stages"], recipe.stages, found, strict=True):
                for key, names, others in fields:
                    for other in others:
                        entry[stage.name].pop(other, None)
                    entry[stage.name][key] = names[min(turn, len(names) - 1)]
                    used.append(entry[stage.name][key])
            yield " + ".join(used) + (f"{INSTEAD}{place}" if place else ""), plain

    def _digest(self, data: Mapping[str, Any], strategies: Any) -> str:
        """A name for this recipe with the code of its plugins: what an edit changed is another run."""
        about = {"recipe": data, "plugins": self._files}
        code = code_of([strategies], told=self._plugin_files)
        if code:
            about["code"] = code
        return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:12]


DENSE_KEYS = ("model", "dtype", "device", "device_map", "trust_remote_code")


def _evaluated(plain: Mapping[str, Any]) -> dict[str, Any]:
    """What is measured of the original model alone; its speed is measured beside each compressed one."""
    return {key: value for key, value in (plain.get("evaluate") or {}).items() if key != "speed"}


def _replaceable(stage: Stage, plugins: Plugins) -> Iterator[tuple[str, list[str], list[str]]]:
    """The fields of a stage for whose kind there are baselines: its name, theirs, and the method's other fields."""
    strategies = [f.name for f in dataclasses.fields(stage) if isinstance(getattr(stage, f.name), Strategy)]  # type: ignore[arg-type]
    for name in strategies:
        kind = getattr(stage, name).kind
        rivals = [
            e.strategy.name for e in plugins.registry.entries() if e.strategy.kind == kind and e.strategy.is_baseline
        ]
        if rivals:
            yield name, rivals, [other for other in strategies if other != name]


def make_cases(loaded: LoadedStudy) -> Cases:
    """All combinations of the grid with all seeds, and their baselines; each recipe once.

    Raises RecipeError with all mistakes at once, each with the name of its run, before anything is run.
    """
    maker, study = CaseMaker(loaded), loaded.study
    found = Cases()
    wrong: list[tuple[str, SwmError]] = []
    runs: dict[str, Case] = {}
    rivals: dict[str, Case] = {}
    for axes, data in combinations(study):
        try:
            case = maker.make(data, axes)
            if maker.is_baseline(data):
                case = dataclasses.replace(case, kind="trivial")
            runs.setdefault(case.id, case)
            if not study.baselines:
                continue
            for name, plain in maker.baselines(data, axes):
                try:
                    _join(rivals, maker.make(plain, axes, "baseline", name), name)
                except RecipeError:
                    # A method that decides by itself how much to remove says so when it is done.
                    waiting = found.unmatched.setdefault(case.id, [])
                    waiting.append((name, plain))
        except SwmError as error:
            wrong.append((told(axes) or BASE, error))
    if wrong:
        raise mistakes(wrong)
    baselines = [_named(case, study) for case in rivals.values() if case.id not in runs]
    cases = [*runs.values(), *baselines]
    impossible = check(cases, loaded)
    found.left_out = [f"{case.name}: {error}" for case, error in impossible]
    cases = [case for case in cases if not any(case is other for other, _ in impossible)]
    dense = {case.dense: maker.dense(case) for case in cases}
    found.cases = [*dense.values(), *cases]
    return found


def mistakes(wrong: Sequence[tuple[str, SwmError]]) -> SwmError:
    """One error that tells all mistakes, each with who makes it; what everybody does wrong is told once."""
    first = wrong[0][1]
    alone = len(wrong) == 1 and wrong[0][0] == BASE
    if alone or (len(wrong) > 1 and len({str(error) for _, error in wrong}) == 1):
        return RecipeError(first.message, ("recipe", *first.path))
    lines = dict.fromkeys(f"  {who}: {error}" for who, error in wrong)
    head = "a run" if len(lines) == 1 else f"{len(lines)} runs"
    return RecipeError(f"{head} cannot be run:\n" + "\n".join(lines))


def _join(rivals: dict[str, Case], case: Case, name: str) -> None:
    """The same baseline for several runs keeps the axes in which these agree."""
    known = rivals.get(case.id)
    if known is not None:
        axes = {key: value for key, value in known.axes.items() if case.axes.get(key) == value}
        case = dataclasses.replace(known, axes=axes)
        name = name if known.name == name else name.partition(INSTEAD)[0]
    rivals[case.id] = dataclasses.replace(case, name=name)


def _named(case: Case, study: Study) -> Case:
    """The name of a baseline with the axes that it does not speak of."""
    spoken = case.name.partition(INSTEAD)[2]
    rest = {key: value for key, value in case.axes.items() if told({key: value}) not in spoken or not spoken}
    seed = f"seed {case.seed}" if study.repeat > 1 else ""
    return dataclasses.replace(case, name=", ".join(filter(None, [case.name, told(rest), seed])))


def matched(maker: CaseMaker, name: str, plain: Mapping[str, Any], removed: Sequence[int], after: Case) -> Case | None:
    """A baseline that removes as many layers, stage by stage, as another case did; None where none went."""
    data = copy.deepcopy(dict(plain))
    for entry, layers in zip(data["stages"], removed, strict=True):
        [(_, settings)] = entry.items()
        if "target" not in settings and layers:
            settings["target"] = {"layers": layers}
    try:
        case = maker.make(data, {}, "baseline", f"{name}, {sum(removed)} layers")
    except RecipeError:
        return None
    return dataclasses.replace(case, follows=after.id)


def check(cases: Sequence[Case], loaded: LoadedStudy) -> list[tuple[Case, SwmError]]:
    """All that can be known to be wrong without weights, for every case. Raises RecipeError with all of it at once.

    Returns what is wrong with baselines that nobody asked for.
    """
    wrong: list[tuple[str, SwmError]] = []
    added: list[tuple[Case, SwmError]] = []
    measured: list[Any] = []
    for case in cases:
        recipe = build_recipe(case.recipe, loaded.plugins)
        if recipe.evaluate in measured:
            # Data and texts of one protocol are looked at once.
            recipe = build_recipe({**case.recipe, "evaluate": {}}, loaded.plugins)
        else:
            measured.append(recipe.evaluate)
        try:
            if recipe.evaluate.speed is not None and (loaded.study.executor.at_once() or 2) > 1:
                raise RecipeError("speed cannot be measured while other runs keep the machine busy; use one worker")
            prepare(recipe, loaded.plugins, Silent(), overwrite=False)
        except SwmError as error:
            if case.kind == "baseline":
                added.append((case, error))
            else:
                wrong.append((case.name, error))
    if wrong:
        raise mistakes(wrong)
    return added
