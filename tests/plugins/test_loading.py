"""Plugins: one file, an installed distribution, a broken one; strategies, hooks, family rows and models."""

from __future__ import annotations

import contextlib
import io
import json
import string
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import BioGptConfig, BioGptForCausalLM, PreTrainedTokenizerFast

from swm import CompressionPipeline, load_recipe
from swm.cli import main
from swm.errors import ClashError, PluginError
from swm.plugins.loading import load_plugins

RECIPE = """\
model: {model}
dtype: float32
calibration: {{text: python-docs, samples: 4, seq_len: 16}}
stages:
  - depth: {{pruner: sliding-window, similarity: {similarity}, target: {{layers: 2}}}}
"""
METRIC = '''\
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import Field
from torch import Tensor

import swm


@dataclass(frozen=True)
class Distance(swm.SampleMetric):
    """One over one plus the mean distance."""

    name: ClassVar[str] = "distance"

    power: Annotated[float, Field(gt=0)] = 2.0

    def per_sample(self, reference: Tensor, candidate: Tensor, mask: Tensor | None = None) -> Tensor:
        return 1 / (1 + (reference - candidate).abs().pow(self.power).mean(dim=(1, 2)))


@swm.hookimpl
def swm_register(register: Callable[[Any], None]) -> None:
    register(Distance)
'''
MORE = """

@dataclass(frozen=True)
class Nearness(Distance):
    '''Another name.'''

    name: ClassVar[str] = "nearness"


@swm.hookimpl(specname="swm_register")
def register_more(register: Callable[[Any], None]) -> None:
    register(Nearness)
"""
STAGE = """
from dataclasses import dataclass
import swm

@dataclass(frozen=True)
class Idle(swm.Stage):
    '''Does nothing.'''
    name = "idle"

    def plan(self, context):
        return swm.StagePlan([])

@swm.hookimpl
def swm_register(register):
    register(Idle)
"""
PRUNERS = """
from dataclasses import dataclass
import swm

@dataclass(frozen=True)
class Needy(swm.DepthPruner):
    '''Has a parameter without a default.'''
    name = "needy"
    count: int

    def propose(self, context):
        return swm.DepthProposal([])

@dataclass(frozen=True)
class Torn(swm.DepthPruner):
    '''Fails early.'''
    name = "torn"

    def capacity(self, layers):
        raise ZeroDivisionError("torn")

    def propose(self, context):
        return swm.DepthProposal([])

@swm.hookimpl
def swm_register(register):
    register(Needy)
    register(Torn)
"""
PROVIDER = '''\
import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import swm

HERE = Path(__file__).parent
heard = []


@dataclass(frozen=True)
class House(swm.ModelProvider):
    """The model that lives beside this file."""

    name: ClassVar[str] = "house-model"

    def locate(self):
        return HERE / "model"


@swm.hookimpl
def swm_register(register):
    register(House)


@swm.hookimpl
def swm_stage_started(index, stage):
    heard.append(["started", index, stage.name])


@swm.hookimpl
def swm_stage_finished(index, stage, facts):
    heard.append(["finished", index, facts["achieved"]["layers"], facts["removed_layers"]])


@swm.hookimpl
def swm_run_finished(report):
    heard.append(["run", report["compressed"]["layers"], Path("out/report.json").is_file()])
    (HERE / "heard.json").write_text(json.dumps(heard))
'''
BIOGPT = """\
import swm


@swm.hookimpl
def swm_register(register):
    register(swm.ModelFamily("biogpt", ("biogpt",), "biogpt.layers", ("biogpt.layer_norm",), PROJECTIONS))


PROJECTIONS = {
    "attention.q": "self_attn.q_proj",
    "attention.k": "self_attn.k_proj",
    "attention.v": "self_attn.v_proj",
    "attention.o": "self_attn.out_proj",
    "mlp.up": "fc1",
    "mlp.down": "fc2",
}
"""


def save_tokenizer(folder: Path) -> None:
    """A tokenizer whose tokens are characters."""
    tokens = ["<pad>", "<s>", "</s>", "<unk>", *string.printable[:92]]
    tokenizer = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>").save_pretrained(folder)


@pytest.fixture(scope="module")
def model(tiny: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Llama."""
    folder = tmp_path_factory.mktemp("model")
    tiny("llama").save_pretrained(folder)
    save_tokenizer(folder)
    return folder


@pytest.fixture
def swm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Any, str, str]]:
    """Runs the command in `tmp_path`: exit code, standard output and error."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[Any, str, str]:
        monkeypatch.setattr(sys, "argv", ["swm", *arguments])
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, out.getvalue(), err.getvalue()

    return run


Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Makes an installed distribution with one module and one entry point of the group `swm`."""
    modules = []

    def make(name: str, source: str, module: str = "", version: str = "1.2") -> None:
        module = module or f"installed_{name.replace('-', '_')}"
        site = tmp_path / "site" / module
        info = site / f"{module}-{version}.dist-info"
        info.mkdir(parents=True)
        (site / f"{module}.py").write_text(source)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[swm]\n{name} = {module}\n")
        monkeypatch.syspath_prepend(site)
        modules.append(module)

    yield make
    for module in modules:
        sys.modules.pop(module, None)


def test_a_recipe_uses_a_metric_from_one_file_and_hooks_and_a_model_from_another(
    model: Path, tmp_path: Path, swm: Callable[..., tuple[Any, str, str]]
) -> None:
    (tmp_path / "model").symlink_to(model)
    (tmp_path / "my_metric.py").write_text(METRIC)
    (tmp_path / "house.py").write_text(PROVIDER)
    (tmp_path / "recipe.yaml").write_text(
        RECIPE.format(model="house-model", similarity="{name: distance, power: 1}")
        + "output: out\nplugins: [./my_metric.py]\n"
    )
    code, out, err = swm("compress", "recipe.yaml", "--plugin", "house.py", "--json")
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert report["model"]["source"] == "house-model"
    assert report["stages"][0]["settings"]["similarity"] == {"name": "distance", "power": 1.0}
    assert json.loads((tmp_path / "heard.json").read_text()) == [
        ["started", 0, "depth"],
        ["finished", 0, 2, 2],
        ["run", 4, True],
    ]


def test_parameters_of_a_plugin_are_validated_like_built_in_ones(
    model: Path, tmp_path: Path, swm: Callable[..., tuple[Any, str, str]]
) -> None:
    (tmp_path / "my_metric.py").write_text(METRIC)
    for value, says in (("{name: distance, power: 0}", "greater than 0"), ("{name: distance, pwer: 1}", "'power'?")):
        (tmp_path / "recipe.yaml").write_text(RECIPE.format(model=model, similarity=value))
        code, _, err = swm("compress", "recipe.yaml", "--plugin", "my_metric.py")
        assert code == 2
        assert says in err


def test_strategies_shows_what_a_file_brings(tmp_path: Path, swm: Callable[..., tuple[Any, str, str]]) -> None:
    (tmp_path / "my_metric.py").write_text(METRIC)
    code, out, _ = swm("strategies", "similarity", "--plugin", "my_metric.py", "--json")
    assert code == 0
    [entry] = [entry for entry in json.loads(out) if entry["name"] == "distance"]
    assert entry["origin"] == "my_metric.py"
    assert entry["summary"] == "One over one plus the mean distance."
    assert entry["parameters"]["power"]["default"] == 2.0


def test_a_file_that_is_named_twice_is_loaded_once(tmp_path: Path) -> None:
    file = tmp_path / "my_metric.py"
    file.write_text(METRIC)
    assert load_plugins([file, file]).origins.count(str(file)) == 1


def test_two_files_of_one_name_are_two_plugins(tmp_path: Path) -> None:
    for folder, name in (("a", "distance"), ("b", "nearness")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(METRIC.replace('"distance"', f'"{name}"'))
    plugins = load_plugins([tmp_path / "a/mine.py", tmp_path / "b/mine.py"])
    assert {"distance", "nearness"} <= set(plugins.registry.names("similarity"))


def test_an_installed_plugin_is_found_by_its_entry_point(
    install: Install, swm: Callable[..., tuple[Any, str, str]]
) -> None:
    install("far-away", METRIC)
    plugins = load_plugins()
    assert "distance" in plugins.registry.names("similarity")
    assert plugins.broken == []
    _, out, _ = swm("doctor", "--json")
    assert json.loads(out)["plugins"]["'far-away' (installed_far_away 1.2)"].startswith(
        "similarity distance (states no plugin API"
    )


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import no_such_library\n", "ModuleNotFoundError: No module named 'no_such_library'"),
        ("def f(:\n", "SyntaxError"),
        ("raise SystemExit(3)\n", "SystemExit: 3"),
        (METRIC.replace("swm_register", "swm_registr"), "Did you mean 'swm_register'?"),
        (METRIC.replace("def per_sample", "def per_sampel"), "does not implement per_sample"),
        (METRIC.replace("register(Distance)", "register(Distance)\n    1 / 0"), "ZeroDivisionError"),
        ("x = 1\n", "has no hook"),
    ],
    ids=["import", "syntax", "exit", "misspelt hook", "abstract class", "error in the hook", "no hook"],
)
def test_a_broken_installed_plugin_is_shown_and_stops_nothing(
    source: str, says: str, install: Install, swm: Callable[..., tuple[Any, str, str]]
) -> None:
    install("far-away", source)
    plugins = load_plugins()
    [broken] = plugins.broken
    assert broken.origin == "'far-away' (installed_far_away 1.2)"
    assert says in broken.error
    assert "SWM_PLUGINS=" in str(broken)
    assert "cosine" in plugins.registry.names("similarity")
    assert "distance" not in plugins.registry.names("similarity")
    assert not plugins.manager.has_plugin("far-away")
    code, out, _ = swm("doctor", "--json")
    assert code == 0
    assert says in json.loads(out)["plugins"][broken.origin]


def test_a_run_warns_of_a_broken_plugin(
    model: Path, tmp_path: Path, install: Install, swm: Callable[..., tuple[Any, str, str]]
) -> None:
    install("far-away", "import no_such_library\n")
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(model=model, similarity="cosine"))
    code, _, err = swm("plan", "recipe.yaml")
    assert code == 0
    assert err.startswith("warning: plugin 'far-away' (installed_far_away 1.2): ModuleNotFoundError")
    code, _, err = swm("plan", "recipe.yaml", "--quiet")
    assert (code, err) == (0, "")


def test_the_environment_chooses_among_installed_plugins(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("far-away", METRIC)
    install("near-by", METRIC.replace('"distance"', '"nearness"'))
    both = {"distance", "nearness"}
    assert both <= set(load_plugins().registry.names("similarity"))
    monkeypatch.setenv("SWM_PLUGINS", "near-by")
    assert both & set(load_plugins().registry.names("similarity")) == {"nearness"}
    monkeypatch.setenv("SWM_PLUGINS", " near-by , far-away ")
    assert both <= set(load_plugins().registry.names("similarity"))
    monkeypatch.setenv("SWM_PLUGINS", "")
    assert not both & set(load_plugins().registry.names("similarity"))
    monkeypatch.setenv("SWM_PLUGINS", "near-bye")
    with pytest.raises(PluginError, match=r"near-bye; installed plugins: .*near-by.* Did you mean 'near-by'\?"):
        load_plugins()


def test_a_file_is_loaded_whatever_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_metric.py").write_text(METRIC)
    monkeypatch.setenv("SWM_PLUGINS", "")
    assert "distance" in load_plugins([tmp_path / "my_metric.py"]).registry.names("similarity")


def test_a_clash_names_both_origins(install: Install, tmp_path: Path) -> None:
    install("far-away", METRIC)
    file = tmp_path / "my_metric.py"
    file.write_text(METRIC)
    with pytest.raises(ClashError) as raised:
        load_plugins([file])
    assert str(raised.value) == (
        f"similarity 'distance' is registered twice: by 'far-away' (installed_far_away 1.2) and by {file}"
    )


def test_a_name_that_two_installed_plugins_claim_means_neither_and_all_else_works(
    model: Path, tmp_path: Path, install: Install, swm: Callable[..., tuple[Any, str, str]]
) -> None:
    install("far-away", METRIC)
    install("near-by", METRIC + MORE)
    far, near = "'far-away' (installed_far_away 1.2)", "'near-by' (installed_near_by 1.2)"
    plugins = load_plugins()
    assert plugins.registry.contested() == {("similarity", "distance"): [far, near]}
    assert {"cosine", "nearness"} <= {entry.strategy.name for entry in plugins.registry.entries()}
    code, out, err = swm("doctor", "--json")
    told = json.loads(out)
    assert (code, err) == (0, "")
    assert told["name clashes"]["similarity 'distance'"].startswith(f"claimed by {far} and by {near}")
    assert told["plugins"][near].startswith("similarity distance, nearness")
    code, out, err = swm("strategies", "similarity")
    assert code == 0
    assert "nearness" in out
    assert f"warning: similarity 'distance' is claimed by {far} and by {near}" in err
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(model=model, similarity="nearness"))
    assert swm("plan", "recipe.yaml", "--quiet")[0] == 0


def test_using_a_contested_name_names_both_owners_and_the_way_to_say_which(
    model: Path,
    tmp_path: Path,
    install: Install,
    swm: Callable[..., tuple[Any, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install("far-away", METRIC)
    install("near-by", METRIC)
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(model=model, similarity="{name: distance, power: 1}"))
    code, _, err = swm("plan", "recipe.yaml", "--quiet")
    assert code == 2
    assert err == (
        "error: recipe.yaml:5: stages.0.depth.similarity: similarity 'distance' is registered by 'far-away' "
        "(installed_far_away 1.2) and by 'near-by' (installed_near_by 1.2), so it means neither; uninstall one, or "
        "name in the environment variable SWM_PLUGINS the plugins that should be loaded\n"
    )
    monkeypatch.setenv("SWM_PLUGINS", "near-by")
    assert swm("plan", "recipe.yaml", "--quiet")[0] == 0


def test_a_contested_stage_is_told_like_that_too(
    model: Path, tmp_path: Path, install: Install, swm: Callable[..., tuple[Any, str, str]]
) -> None:
    install("far-away", STAGE)
    install("near-by", STAGE)
    (tmp_path / "recipe.yaml").write_text(f"model: {model}\nstages: [idle: {{}}]\n")
    code, _, err = swm("plan", "recipe.yaml", "--quiet")
    assert code == 2
    assert "stage 'idle' is registered by 'far-away'" in err


def test_a_plugin_that_fails_after_a_clash_gives_the_name_back(install: Install) -> None:
    install("far-away", METRIC)
    install("near-by", METRIC.replace("register(Distance)", "register(Distance)\n    1 / 0"))
    plugins = load_plugins()
    assert plugins.registry.contested() == {}
    assert plugins.registry.strategy("similarity", "distance").__module__ == "installed_far_away"
    assert [broken.origin for broken in plugins.broken] == ["'near-by' (installed_near_by 1.2)"]


def test_a_built_in_name_stays_built_in(install: Install, swm: Callable[..., tuple[Any, str, str]]) -> None:
    install("far-away", METRIC.replace('"distance"', '"cosine"'))
    plugins = load_plugins()
    assert plugins.registry.strategy("similarity", "cosine").__module__ == "swm.similarity.cosine"
    [broken] = plugins.broken
    assert broken.error == (
        "similarity 'cosine' is registered twice: by swm and by 'far-away' (installed_far_away 1.2)"
    )
    assert swm("strategies", "similarity")[0] == 0


def test_one_plugin_name_in_two_distributions_is_two_plugins(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("far-away", METRIC)
    install("far-away", METRIC.replace('"distance"', '"nearness"'), module="installed_other")
    both = {"distance", "nearness"}
    assert both <= set(load_plugins().registry.names("similarity"))
    monkeypatch.setenv("SWM_PLUGINS", "installed_other")
    assert both & set(load_plugins().registry.names("similarity")) == {"nearness"}


@pytest.mark.parametrize(
    ("api", "says"),
    [
        ("2", "it is written for plugin API 2; this swm has 1; upgrade swm"),
        ("0", "found swm_api = 0; it is a number, as in swm_api = 1"),
        ("'1'", "found swm_api = '1'; it is a number, as in swm_api = 1"),
        ("True", "found swm_api = True; it is a number"),
    ],
)
def test_a_plugin_for_another_api_is_shown_and_not_loaded(
    api: str, says: str, install: Install, swm: Callable[..., tuple[Any, str, str]]
) -> None:
    install("far-away", f"{METRIC}\nswm_api = {api}\n")
    plugins = load_plugins()
    assert "distance" not in plugins.registry.names("similarity")
    [broken] = plugins.broken
    assert broken.error.startswith(says)
    code, out, _ = swm("doctor", "--json")
    assert code == 0
    assert says in json.loads(out)["plugins"]["'far-away' (installed_far_away 1.2)"]


def test_a_plugin_for_an_older_api_that_is_still_good_is_loaded_with_a_note(
    install: Install, swm: Callable[..., tuple[Any, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swm.plugins.hookspecs.API_VERSION", 3)
    monkeypatch.setattr("swm.commands.diagnosis.API_VERSION", 3)
    monkeypatch.setattr("swm.plugins.hookspecs.OLDEST_API", 2)
    install("far-away", f"{METRIC}\nswm_api = 2\n")
    install("near-by", METRIC.replace('"distance"', '"nearness"') + "\nswm_api = 1\n")
    told = json.loads(swm("doctor", "--json")[1])["plugins"]
    assert told["'far-away' (installed_far_away 1.2)"] == (
        "similarity distance (written for plugin API 2, which this swm still takes; its own is 3)"
    )
    assert "it is written for plugin API 1; this swm has 2 to 3" in told["'near-by' (installed_near_by 1.2)"]


def test_a_file_for_another_api_is_refused(tmp_path: Path) -> None:
    (tmp_path / "my_metric.py").write_text(f"{METRIC}\nswm_api = 2\n")
    with pytest.raises(PluginError, match=r"my_metric\.py: it is written for plugin API 2; this swm has 1; upg"):
        load_plugins([tmp_path / "my_metric.py"])


def test_doctor_survives_a_pruner_that_cannot_tell_its_capacity(
    model: Path, install: Install, swm: Callable[..., tuple[Any, str, str]]
) -> None:
    install("far-away", PRUNERS)
    code, out, _ = swm("doctor", str(model), "--json")
    assert code == 0
    told = json.loads(out)[f"model {model}"]
    assert told["depth: needy"] == "only with parameters: 'needy' needs count"
    assert told["depth: torn"] == "broken: ZeroDivisionError: torn"


def save_biogpt(folder: Path) -> None:
    sizes = {"vocab_size": 96, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
    BioGptForCausalLM(BioGptConfig(**sizes, num_hidden_layers=5, max_position_embeddings=64)).save_pretrained(folder)
    save_tokenizer(folder)


@pytest.mark.parametrize("files", [[], ["family.py"]], ids=["automatic row", "row of a plugin"])
def test_a_family_that_swm_does_not_know_works(tmp_path: Path, monkeypatch: Any, files: list[str]) -> None:
    monkeypatch.setenv("SWM_CACHE", str(tmp_path / "cache"))
    save_biogpt(tmp_path / "biogpt")
    (tmp_path / "family.py").write_text(BIOGPT)
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(model="biogpt", similarity="cosine"))
    recipe, plugins = load_recipe("recipe.yaml", plugin_files=files)
    result = CompressionPipeline(recipe, plugins).run()
    notes = [note for note in result.report["notes"] if "automatic one was derived" in note]
    assert len(notes) == (not files)
    assert len(list((tmp_path / "cache/families").glob("*.json"))) == 1
    assert result.report["compressed"]["layers"] == 3
    ids = torch.arange(4, 12)[None]
    assert result.model.generate(input_ids=ids, max_new_tokens=3, do_sample=False).shape[1] > 8


def test_weights_are_combined_alike_whether_a_family_row_names_them_or_not(tmp_path: Path) -> None:
    save_biogpt(tmp_path / "biogpt")
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(model="biogpt", similarity="cosine"))
    merged = []
    for row in (BIOGPT, BIOGPT.replace(", PROJECTIONS)", ")")):
        (tmp_path / "family.py").write_text(row)
        recipe, plugins = load_recipe("recipe.yaml", plugin_files=["family.py"])
        merged.append(CompressionPipeline(recipe, plugins).run().model.state_dict())
    assert all(torch.equal(value, merged[1][name]) for name, value in merged[0].items())


def test_a_family_row_with_a_wrong_path_is_refused(tmp_path: Path, swm: Callable[..., tuple[Any, str, str]]) -> None:
    BioGptConfig(vocab_size=96, hidden_size=32, num_hidden_layers=2, num_attention_heads=4).save_pretrained(
        tmp_path / "biogpt"
    )
    (tmp_path / "biogpt/model.safetensors").touch()
    (tmp_path / "family.py").write_text(BIOGPT.replace("biogpt.layers", "biogpt.blocks"))
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(model="biogpt", similarity="cosine"))
    code, _, err = swm("plan", "recipe.yaml", "--plugin", "family.py")
    assert code == 2
    assert "family row 'biogpt' says that the layers are at 'biogpt.blocks'" in err
