"""The fingerprint: it names a model by what its answers depend on."""

from __future__ import annotations

from transformers import PreTrainedModel

from swm.model.fingerprint import relevant_config
from swm.model.view import ModelView


def test_one_changed_weight_changes_the_fingerprint(any_model: PreTrainedModel, view: ModelView) -> None:
    before = view.fingerprint()
    assert view.fingerprint() == before
    for value in (view.state(3)["mlp.down.weight"], dict(any_model.named_parameters()).popitem()[1].detach()):
        kept = value.view(-1)[0].clone()
        value.view(-1)[0] += 1e-3
        assert view.fingerprint() != before
        value.view(-1)[0] = kept
    assert view.fingerprint() == before


def test_the_fingerprint_names_the_model_and_not_the_object(tiny, view_of, llama: ModelView) -> None:
    assert view_of(tiny("llama")).fingerprint() == llama.fingerprint()
    assert view_of(tiny("llama").bfloat16()).fingerprint() != llama.fingerprint()


def test_where_a_model_comes_from_is_no_part_of_it() -> None:
    values = {"_name_or_path": "a/b", "dtype": "float32", "rope": {"theta": 1.0, "architectures": []}, "kinds": (1, 2)}
    assert relevant_config(values) == {"rope": {"theta": 1.0}, "kinds": [1, 2]}
