"""The command line from end to end on a tiny model: what it prints, what it writes, how it ends."""

from __future__ import annotations

import json
import platform
import shutil
import string
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_runs import Ran, run
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

RECIPE = """\
model: model
dtype: float32
calibration: {text: python-docs, samples: 4, seq_len: 16}
stages:
  - depth: {pruner: sliding-window, target: {layers: 2}}
evaluate:
  perplexity: {text: python-docs, seq_len: 32, max_tokens: 256}
  prompts: ["once upon"]
  max_new_tokens: 4
output: out
"""


@pytest.fixture(scope="module")
def model(tiny: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Llama with a tokenizer whose tokens are characters."""
    folder = tmp_path_factory.mktemp("model")
    tiny("llama").save_pretrained(folder)
    tokens = ["<pad>", "<s>", "</s>", "<unk>", *string.printable[:92]]
    tokenizer = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>").save_pretrained(folder)
    (folder / "LICENSE").write_text("all rights are yours\n")
    return folder


@pytest.fixture(scope="module")
def workplace(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """Makes a folder that holds the recipe and the model."""

    def make() -> Path:
        folder = tmp_path_factory.mktemp("work")
        (folder / "model").symlink_to(model)
        (folder / "recipe.yaml").write_text(RECIPE)
        return folder

    return make


@pytest.fixture(scope="module")
def work(workplace: Callable[[], Path]) -> Path:
    return workplace()


@pytest.fixture(scope="module")
def compressed(work: Path) -> Ran:
    """`swm compress recipe.yaml --json`; the model is in `work/out`."""
    return run(work, "compress", "recipe.yaml", "--json")


@pytest.fixture(scope="module")
def planned(work: Path) -> Ran:
    """`swm plan recipe.yaml -o plan.yaml`."""
    return run(work, "plan", "recipe.yaml", "-o", "plan.yaml")


def test_compress_with_json_prints_the_report_and_nothing_else(compressed: Ran, work: Path) -> None:
    assert compressed.code == 0
    assert compressed.err == ""
    report = json.loads(compressed.out)
    assert report == json.loads((work / "out/report.json").read_text())
    assert report["model"]["layers"] == 6
    assert report["compressed"]["layers"] == 4
    assert report["verification"]["max_abs_difference"] <= report["verification"]["tolerance"]
    assert report["perplexity"]["dense"]["protocol"] == report["perplexity"]["compressed"]["protocol"]
    assert report["answers"]["prompts"] == ["once upon"]


@pytest.mark.usefixtures("compressed")
def test_the_output_folder_is_a_plain_model_with_its_history(work: Path, model: Path) -> None:
    out = work / "out"
    assert {file.name for file in out.iterdir()} >= {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "README.md",
        "recipe.yaml",
        "plan.yaml",
        "report.json",
        "timing.json",
    }
    assert len(AutoModelForCausalLM.from_pretrained(out).model.layers) == 4
    for name in ("tokenizer.json", "LICENSE"):
        assert (out / name).read_bytes() == (model / name).read_bytes()
    assert [file.name for file in work.iterdir() if file.name.startswith(".")] == []


@pytest.mark.usefixtures("compressed")
def test_the_same_recipe_gives_the_same_bytes_in_every_file_but_those_that_tell_time(
    work: Path, workplace: Callable[[], Path]
) -> None:
    other = workplace()
    ran = run(other, "compress", "recipe.yaml", "--quiet")
    assert (ran.code, ran.out, ran.err) == (0, "out\n", "")
    names = {file.name for file in (work / "out").iterdir()}
    assert {file.name for file in (other / "out").iterdir()} == names
    telling = {"timing.json", "report.html"}
    for name in sorted(names - telling - {"swm-manifest.json"}):
        assert (other / "out" / name).read_bytes() == (work / "out" / name).read_bytes(), name
    listed = [json.loads((each / "out/swm-manifest.json").read_text())["files"] for each in (work, other)]
    assert listed[0].keys() == listed[1].keys()
    assert all(listed[0][name] == listed[1][name] for name in listed[0].keys() - telling)


@pytest.mark.usefixtures("compressed")
def test_plan_then_apply_gives_the_bytes_of_compress(work: Path, planned: Ran) -> None:
    assert planned.code == 0
    assert "merge layers" in planned.out
    assert planned.out.splitlines()[-1] == "saved: plan.yaml"
    applied = run(work, "apply", "plan.yaml", "-o", "applied")
    assert applied.code == 0
    assert "saved: applied" in applied.out
    for name in ("model.safetensors", "config.json", "generation_config.json", "tokenizer.json"):
        assert (work / "applied" / name).read_bytes() == (work / "out" / name).read_bytes(), name


@pytest.mark.usefixtures("planned")
def test_plan_prints_the_plan_as_yaml_or_json(work: Path) -> None:
    as_yaml = run(work, "plan", "recipe.yaml")
    as_json = run(work, "plan", "recipe.yaml", "--json")
    assert as_yaml.code == as_json.code == 0
    assert as_json.err == ""
    assert yaml.safe_load(as_yaml.out) == json.loads(as_json.out)
    assert as_yaml.out == (work / "plan.yaml").read_text()


@pytest.mark.usefixtures("planned")
def test_plan_writes_no_model(workplace: Callable[[], Path]) -> None:
    folder = workplace()
    ran = run(folder, "plan", "recipe.yaml", "-o", "plan.yaml", "--quiet")
    assert (ran.code, ran.out, ran.err) == (0, "", "")
    assert sorted(file.name for file in folder.iterdir()) == ["model", "plan.yaml", "recipe.yaml"]


@pytest.mark.usefixtures("planned")
def test_diff_ends_with_0_for_equal_plans_and_with_1_for_different_ones(work: Path) -> None:
    equal = run(work, "diff", "plan.yaml", "plan.yaml")
    assert (equal.code, equal.out) == (0, "")
    text = (work / "plan.yaml").read_text()
    (work / "other.yaml").write_text(text.replace("seed: 0", "seed: 1"))
    different = run(work, "diff", "plan.yaml", "other.yaml")
    assert different.code == 1
    assert "- seed: 0\n+ seed: 1\n" in different.out
    as_json = run(work, "diff", "plan.yaml", "other.yaml", "--json")
    assert as_json.code == 1
    assert "- seed: 0" in json.loads(as_json.out)


def test_strategies_lists_every_kind_with_parameters_origin_and_paper(tmp_path: Path) -> None:
    as_json = run(tmp_path, "strategies", "--json")
    assert (as_json.code, as_json.err) == (0, "")
    entries = {(entry["kind"], entry["name"]): entry for entry in json.loads(as_json.out)}
    window = entries["depth", "sliding-window"]
    assert window["origin"] == "swm"
    assert window["paper"].startswith("https://arxiv.org/abs/")
    assert window["parameters"]["quirks"]["choices"] == ["fixed", "released"]
    table = run(tmp_path, "strategies", "similarity")
    assert table.code == 0
    assert "cosine" in table.out
    assert "sliding-window" not in table.out


def test_doctor_tells_what_applies_to_a_model(work: Path) -> None:
    ran = run(work, "doctor", "model", "--json")
    assert (ran.code, ran.err) == (0, "")
    found = json.loads(ran.out)
    assert found["model model"]["model_type"] == "llama"
    assert found["model model"]["depth: sliding-window"] == "up to 3 layers"
    assert found["model model"]["vocabulary cut"] == "to 4 of 96 tokens or more"
    shown = run(work, "doctor", "model")
    assert shown.code == 0
    assert "up to 3 layers" in shown.out


def test_doctor_tells_why_a_model_is_not_supported(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/config.json").write_text('{"model_type": "t5"}')
    (tmp_path / "other/model.safetensors").touch()
    ran = run(tmp_path, "doctor", "other", "--json")
    assert ran.code == 0
    assert json.loads(ran.out)["model other"]["supported"].startswith("no: no family row for model_type 't5'")


def test_evaluate_prints_the_perplexity_with_its_protocol(work: Path) -> None:
    arguments = ("evaluate", "model", "--seq-len", "32", "--max-tokens", "256")
    as_json = run(work, *arguments, "--json")
    assert (as_json.code, as_json.err) == (0, "")
    result = json.loads(as_json.out)["perplexity"]
    assert result["value"] > 1
    assert result["protocol"]["scored_tokens"] == 248
    shown = run(work, *arguments, "--quiet")
    assert (shown.code, shown.err) == (0, "")
    assert f"perplexity {result['value']:.3f}" in shown.out
    assert "248 tokens scored in non-overlapping windows of 32, BOS: none" in " ".join(shown.out.split())


def test_evaluate_agrees_with_the_report_of_a_run(work: Path, compressed: Ran) -> None:
    ran = run(work, "evaluate", "out", "--seq-len", "32", "--max-tokens", "256", "--json")
    assert json.loads(ran.out)["perplexity"] == json.loads(compressed.out)["perplexity"]["compressed"]


def test_overwrite_replaces_a_folder_that_swm_wrote(workplace: Callable[[], Path], work: Path, compressed: Ran) -> None:
    assert compressed.code == 0
    folder = workplace()
    shutil.copytree(work / "out", folder / "out")
    (folder / "out/mine").touch()
    ran = run(folder, "compress", "recipe.yaml", "--overwrite")
    assert ran.code == 2
    assert "swm did not write, or what was changed since: mine" in ran.err
    (folder / "out/mine").unlink()
    # What swm wrote goes, whatever of it the next run writes.
    manifest = json.loads((folder / "out/swm-manifest.json").read_text())
    ran = run(folder, "compress", "recipe.yaml", "--overwrite")
    assert ran.code == 0
    assert json.loads((folder / "out/swm-manifest.json").read_text()) == manifest
    assert ran.out.splitlines()[-1] == "saved: out"
    assert "parameters" in ran.out
    assert "once upon" in ran.out
    assert sorted(file.name for file in folder.iterdir()) == ["model", "out", "recipe.yaml"]


def test_help_comes_at_once_without_a_heavy_library() -> None:
    code = (
        "import sys\n"
        "sys.argv = ['swm', '--help']\n"
        "from swm.cli import main\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as end:\n"
        "    heavy = sorted({'torch', 'transformers', 'pydantic', 'numpy', 'pluggy'} & set(sys.modules))\n"
        "    print(end.code, heavy, file=sys.stderr)\n"
    )
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        seconds.append(time.perf_counter() - start)
    assert done.stderr == "0 []\n"
    assert "compress" in done.stdout
    # The faster one: other programs may hold the machine for a while.
    assert min(seconds) < 1.5


@pytest.mark.parametrize("command", ["compress", "plan", "apply", "diff", "strategies", "doctor", "evaluate"])
def test_every_command_has_help(command: str, tmp_path: Path) -> None:
    ran = run(tmp_path, command, "--help")
    assert (ran.code, ran.err) == (0, "")
    assert "Usage" in ran.out


def test_importing_swm_is_light_and_gives_every_public_name() -> None:
    code = (
        "import sys\n"
        "import swm\n"
        "print(sorted({'torch', 'transformers', 'pydantic', 'numpy', 'yaml'} & set(sys.modules)))\n"
        "print([name for name in swm.__all__ if not hasattr(swm, name)])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n[]\n"


PRIVATE_RECIPE = """\
model: {home}/model
plugins: [{home}/plugin.py]
dtype: float32
calibration: {{text: {home}/text.txt, samples: 4, seq_len: 16}}
stages:
  - depth: {{pruner: sliding-window, similarity: same, target: {{layers: 2}}}}
evaluate:
  perplexity: {{text: {home}/text.txt, seq_len: 32, max_tokens: 256}}
  prompts: ["[INST] \\e[31mhe said [/bold] <b>"]
  max_new_tokens: 4
output: {home}/out
"""
PLUGIN = """\
from dataclasses import dataclass
import swm

@dataclass(frozen=True)
class Same(swm.SimilarityMetric):
    name = "same"

    def compare(self, reference, candidate, mask=None):
        return 1 - float((reference - candidate).norm() / reference.norm())

@swm.hookimpl
def swm_register(register):
    register(Same)
"""


@pytest.fixture(scope="module")
def private(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ran]:
    """A run whose recipe names everything by an absolute path below somebody's home, and that home."""
    home = tmp_path_factory.mktemp("home") / "jane-doe"
    shutil.copytree(model, home / "model")
    (home / "text.txt").write_text("once upon a time there was a little dog. " * 60)
    (home / "plugin.py").write_text(PLUGIN)
    (home / "recipe.yaml").write_text(PRIVATE_RECIPE.format(home=home))
    return home, run(home, "compress", "recipe.yaml")


def test_what_is_made_to_be_pushed_says_nothing_of_this_machine(private: tuple[Path, Ran]) -> None:
    home, ran = private
    assert (ran.code, ran.err.count("error")) == (0, 0)
    telling = [str(home), home.name, str(Path.home()), platform.release()]
    pushed = [file for file in (home / "out").rglob("*") if file.is_file() and file.name != "timing.json"]
    assert len(pushed) > 8
    found = [(file.name, word) for file in pushed for word in telling if word.encode() in file.read_bytes()]
    assert found == []
    assert json.loads((home / "out/report.json").read_text())["model"]["source"] == "model"
    kept = json.loads((home / "out/timing.json").read_text())["inputs"]
    assert kept["calibration.text.path"] == str(home / "text.txt")


def test_a_saved_recipe_and_a_saved_plan_find_their_inputs_on_the_same_machine(private: tuple[Path, Ran]) -> None:
    home, _ = private
    assert run(home, "compress", "out/recipe.yaml", "--set", "output=again", "--quiet").code == 0
    assert (home / "again/model.safetensors").read_bytes() == (home / "out/model.safetensors").read_bytes()
    assert (
        run(home / "again", "apply", "../out/plan.yaml", "-o", "../applied", "--plugin", "../plugin.py", "-q").code == 0
    )
    assert (home / "applied/model.safetensors").read_bytes() == (home / "out/model.safetensors").read_bytes()
    assert str(home).encode() not in b"".join(file.read_bytes() for file in (home / "applied").glob("*.[jmy]*"))


def test_elsewhere_a_plan_says_what_to_pass(private: tuple[Path, Ran], tmp_path: Path) -> None:
    home, _ = private
    shutil.copy(home / "out/plan.yaml", tmp_path)
    arguments = ("apply", "plan.yaml", "-o", "out", "--plugin", str(home / "plugin.py"), "-q")
    ran = run(tmp_path, *arguments)
    assert ran.code == 2
    assert "pass --model PATH" in ran.err
    assert run(tmp_path, *arguments, "--model", str(home / "model")).code == 0


def test_prompts_are_shown_as_they_are(private: tuple[Path, Ran]) -> None:
    _, ran = private
    assert "[INST] \\x1b[31mhe said [/bold] <b>" in ran.out
    assert "\x1b" not in ran.out + ran.err
