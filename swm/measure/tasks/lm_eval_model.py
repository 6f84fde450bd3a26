"""A causal language model in memory, as lm-eval asks for one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import torch
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import (
    handle_stop_sequences,
    normalize_gen_kwargs,
    postprocess_generated_text,
    resolve_max_length,
)
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from swm.errors import ModelError
from swm.interfaces.progress import Progress, Silent
from swm.measure.tasks.generation import Generation, Prompt
from swm.measure.tasks.loglikelihood import LogLikelihood, Pair
from swm.text.vocabulary import encode, pad_id

# What a model's own settings of generation may say without a change to greedy text: names of tokens, how samples are
# drawn, lengths that a task says itself, and what is returned beside the text.
IDLE = frozenset(
    {
        *("transformers_version", "_from_model_config", "bos_token_id", "eos_token_id", "pad_token_id"),
        *("decoder_start_token_id", "max_length", "max_new_tokens", "do_sample", "temperature", "top_k", "top_p"),
        *("min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff", "use_cache", "num_return_sequences"),
        *("penalty_alpha", "return_dict_in_generate", "output_scores", "output_logits", "output_attentions"),
        "output_hidden_states",
    }
)


class AskedText(NamedTuple):
    """A prompt, and the settings of `generate` beside its length and its stops."""

    prompt: Prompt
    settings: dict[str, Any]

    @property
    def is_greedy(self) -> bool:
        """Whether nothing but the likeliest token is asked for."""
        return self.settings == {"do_sample": False}


class PrefixSharingLM(TemplateLM):  # type: ignore[misc]
    """Answers as lm-eval's own `HFLM(pretrained=model, tokenizer=tokenizer)` does, but encodes shared prefixes once.

    Pairs of texts are tokenised by lm-eval's rules, text that is too long is cut by them too. In half precision the
    log-probabilities are more precise than HFLM's, which rounds them to that precision.

    Args:
        model: The model, in evaluation mode.
        tokenizer: The model's tokenizer.
        batch_tokens: Tokens in one pass; None for the usual number.
        progress: Shows how many requests are answered.
        label: What the progress calls the measurement.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        batch_tokens: int | None = None,
        progress: Progress | None = None,
        label: str = "tasks",
    ) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        # By lm-eval's rule and not by ours: texts are to be cut where HFLM cuts them.
        self.max_length: int = resolve_max_length(model.config, tokenizer)
        self._log_likelihood = LogLikelihood(model, self.max_length, batch_tokens)
        self._generation = Generation(model, tokenizer, batch_tokens)
        self._progress = progress or Silent()
        self._label = label
        prefix = self.prefix_token_id
        self._prefix_text = None if prefix is None else tokenizer.decode([prefix])

    @property
    def eot_token_id(self) -> int:
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int | None:
        bos: int | None = self.tokenizer.bos_token_id
        return self.tokenizer.eos_token_id if bos is None else bos

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Token ids, with the special tokens that the tokenizer adds itself unless the text begins with one."""
        if add_special_tokens is None and self._prefix_text is not None and string.startswith(self._prefix_text):
            add_special_tokens = False
        special = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
        return encode(self.tokenizer, string, **special)

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        """Log-likelihood of each continuation, and whether greedy decoding would say it."""
        answers: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm=True)
        return answers

    def _loglikelihood_tokens(self, requests: Sequence[Any], **_: Any) -> list[tuple[float, bool]]:
        return self._score([(context, continuation) for _, context, continuation in requests])

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = True) -> list[float]:
        """Log-likelihood of each text as a whole, by windows of the model's length that do not overlap."""
        pairs: list[Pair] = []
        owners: list[int] = []
        for i, request in enumerate(requests):
            windows = get_rolling_token_windows(
                self.tok_encode(request.args[0]), self.prefix_token_id, self.max_length, context_len=1
            )
            for window in windows:
                pairs.append(make_disjoint_window(window))
                owners.append(i)
        totals = [0.0] * len(requests)
        for owner, (total, _) in zip(owners, self._score(pairs), strict=True):
            totals[owner] += total
        return totals

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = True) -> list[str]:
        """What the model says after each context up to a stop sequence.

        Greedy text is made many requests at a time, all other text one request at a time.
        """
        asked = [self._asked(*request.args) for request in requests]
        together = {i: each.prompt for i, each in enumerate(asked) if each.prompt.tokens and each.is_greedy}
        if not together or not self._is_plain or not self._generation.is_possible(list(together.values())):
            together = {}
        texts: dict[int, str] = {}
        with self._progress.task(self._label, len(requests)) as task:
            made = self._generation.continue_all(list(together.values()), task) if together else []
            for i, tokens in zip(together, made, strict=True):
                texts[i] = self._text(tokens, together[i].stops)
            for i, each in enumerate(asked):
                if i not in together:
                    texts[i] = self._generate(each)
                    task.advance()
        return [texts[i] for i in range(len(requests))]

    def _asked(self, context: str, settings: dict[str, Any]) -> AskedText:
        settings = normalize_gen_kwargs(settings, 256)
        eos = self.tokenizer.eos_token_id
        stops = handle_stop_sequences(
            settings.pop("until", None), None if eos is None else self.tokenizer.decode([eos])
        )
        most = settings.pop("max_gen_toks")
        if most >= self.max_length:
            raise ModelError(
                f"a task asks for answers of up to {most} tokens; the model takes {self.max_length} with the question. "
                "Say max_gen_toks"
            )
        if settings.get("temperature") == 0.0:
            settings = {key: value for key, value in settings.items() if key not in ("temperature", "do_sample")}
            settings["do_sample"] = False
        tokens = tuple(self.tok_encode(context)[-(self.max_length - most) :])
        return AskedText(Prompt(tokens, most, tuple(stop for stop in stops if stop)), settings)

    @cached_property
    def _is_plain(self) -> bool:
        """Whether greedy text of this model is that of the likeliest tokens, many rows at a time."""
        own = self.model.generation_config.to_diff_dict()
        return not [key for key in own if own[key] is not None and key not in IDLE]

    def _generate(self, asked: AskedText) -> str:
        ids = torch.tensor([asked.prompt.tokens], dtype=torch.long, device=self.model.device)
        made = self.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=asked.prompt.most,
            stop_strings=list(asked.prompt.stops) or None,
            tokenizer=self.tokenizer,
            pad_token_id=pad_id(self.tokenizer),
            # Of the model's own settings those under which this is no single row of ids.
            return_dict_in_generate=False,
            num_return_sequences=1,
            penalty_alpha=None,
            **asked.settings,
        )
        return self._text(made[0, ids.shape[1] :], asked.prompt.stops)

    def _text(self, tokens: Any, stops: Sequence[str]) -> str:
        text = self.tokenizer.decode(tokens, skip_special_tokens=True)
        return str(postprocess_generated_text(text, list(stops), None))

    def _score(self, pairs: Sequence[Pair]) -> list[tuple[float, bool]]:
        with self._progress.task(self._label, len(pairs)) as task:
            return self._log_likelihood.score(pairs, task)
