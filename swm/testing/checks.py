"""What every strategy must do, whatever its kind."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

import pytest

from swm.errors import PluginError, SwmError, quoted
from swm.files import yaml_file as yamlfile
from swm.interfaces.strategy import Strategy
from swm.plugins.registry import Registry
from swm.testing.expect import expect, works, wrong
from swm.testing.refusals import refusals

Parameters: TypeAlias = Mapping[str, Any]
NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


class Checks:
    """Checks of one strategy class; `checks_for` fills in what is checked.

    `variants` are parameters as a recipe gives them. `families` are tried with the first ones, the first family with
    all of them.
    """

    strategy: ClassVar[type[Strategy]]
    variants: ClassVar[Sequence[Parameters]]
    families: ClassVar[Sequence[str]]
    registry: ClassVar[Registry]
    defaults: ClassVar[Parameters] = {}
    """Parameters that keep the tests of a kind short, where the variant does not give them."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Gives tests their arguments: `given` parameters, a `bad` one, or `given` with the name of a `family`."""
        names = set(metafunc.fixturenames)
        variants = list(self.variants)
        if "family" in names:
            pairs = [(variants[0], family) for family in self.families]
            pairs += [(variant, self.families[0]) for variant in variants[1:]]
            ids = [" ".join(filter(None, (family, as_arguments(variant)))) for variant, family in pairs]
            metafunc.parametrize(("given", "family"), pairs, ids=ids)
        elif "given" in names:
            metafunc.parametrize("given", variants, ids=[as_arguments(variant) or "defaults" for variant in variants])
        if "bad" in names:
            cases = list(refusals(self.strategy))
            metafunc.parametrize("bad", cases, ids=[f"{name}={value}" for name, value in cases])

    def build(self, given: Parameters) -> Any:
        """The strategy with these parameters, made as from a recipe."""
        with works(f"building {self.who(given)}"):
            fields = {f.name for f in dataclasses.fields(self.strategy)}  # type: ignore[arg-type]
            ready = {key: value for key, value in self.defaults.items() if key in fields}
            return self.registry.build_named(self.strategy.kind, self.strategy.name, {**ready, **given})

    def who(self, given: Parameters) -> str:
        """The strategy as messages call it."""
        return f"{self.strategy.__name__}({as_arguments(given)})"

    def test_it_can_be_registered(self) -> None:
        cls = self.strategy
        try:
            Registry().register(cls, "the plugin")
        except PluginError as error:
            wrong(str(error))
        known = self.registry.strategy(cls.kind, cls.name)
        expect(known is cls, f"{cls.kind} '{cls.name}' is already the name of {known.__module__}.{known.__qualname__}")

    def test_its_name_is_in_kebab_case(self) -> None:
        name = self.strategy.name
        expect(
            NAME.fullmatch(name) is not None, f"name '{name}' must be in kebab-case, as in 'my-{self.strategy.kind}'"
        )

    def test_it_is_frozen_and_says_what_it_does(self) -> None:
        cls: Any = self.strategy
        expect(cls.__dataclass_params__.frozen, f"{cls.__name__} must be frozen: @dataclass(frozen=True)")
        text = cls.__doc__ or ""
        expect(
            bool(text) and not text.startswith(f"{cls.__name__}("), f"{cls.__name__} needs a docstring: one sentence"
        )

    def test_a_recipe_holds_its_parameters(self, given: Parameters) -> None:
        strategy = self.build(given)
        spec = strategy.spec()
        try:
            read, _ = yamlfile.parse(yamlfile.dump({"it": spec}))
            forms = [json.loads(json.dumps(spec)), read["it"]]
        except (TypeError, ValueError, SwmError) as error:
            wrong(f"parameters of {self.who(given)} cannot be written as JSON and YAML: {error}")
        for form in forms:
            name = form.pop("name")
            with works(f"reading {self.who(given)} back"):
                again = self.registry.build_named(strategy.kind, name, form)
            expect(again == strategy, f"{self.who(given)} is read back as another one: {again}")

    def test_bad_parameters_are_refused(self, bad: tuple[str, Any]) -> None:
        name, value = bad
        parameters = {**self.build(self.variants[0]).spec(), name: value}
        del parameters["name"]
        who = f"{self.strategy.__name__} with {name}={quoted(value)}"
        try:
            self.registry.build_named(self.strategy.kind, self.strategy.name, parameters)
        except SwmError as error:
            expect(name in str(error), f"{who} is refused with a message that does not say '{name}': {error}")
        except Exception as error:
            wrong(f"{who} ends in {type(error).__name__}: {error}; raise ValueError with a sentence in __post_init__")
        else:
            wrong(f"{who} is not refused")


def as_arguments(given: Parameters) -> str:
    """Parameters as they are written in a call."""
    return ", ".join(f"{key}={quoted(value)}" for key, value in given.items())
