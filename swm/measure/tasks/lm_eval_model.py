"""A causal language model in memory, as lm-eval asks for one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import (
    handle_stop_sequences,
    normalize_gen_kwargs,
    postprocess_generated_text,
    resolve_max_length,
)
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from swm.interfaces.progress import Progress, Silent
from swm.measure.tasks.loglikelihood import LogLikelihood, Pair
from swm.text.vocabulary import encode, pad_id


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
        """What the model says after each context up to a stop sequence, one request at a time."""
        texts = []
        with self._progress.task(self._label, len(requests)) as task:
            for request in requests:
                texts.append(self._generate(*request.args))
                task.advance()
        return texts

    def _generate(self, context: str, settings: dict[str, Any]) -> str:
        settings = normalize_gen_kwargs(settings, 256)
        eos = self.tokenizer.eos_token_id
        stops = handle_stop_sequences(
            settings.pop("until", None), None if eos is None else self.tokenizer.decode([eos])
        )
        new = settings.pop("max_gen_toks")
        if settings.get("temperature") == 0.0:
            settings = {key: value for key, value in settings.items() if key not in ("temperature", "do_sample")}
            settings["do_sample"] = False
        ids = torch.tensor([self.tok_encode(context)[-(self.max_length - new) :]], device=self.model.device)
        made = self.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=new,
            stop_strings=[stop for stop in stops if stop] or None,
            tokenizer=self.tokenizer,
            pad_token_id=pad_id(self.tokenizer),
            # Of the model's own settings those under which this is no single row of ids.
            return_dict_in_generate=False,
            num_return_sequences=1,
            penalty_alpha=None,
            **settings,
        )
        text = self.tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True)
        return str(postprocess_generated_text(text, stops, None))

    def _score(self, pairs: Sequence[Pair]) -> list[tuple[float, bool]]:
        with self._progress.task(self._label, len(pairs)) as task:
            return self._log_likelihood.score(pairs, task)
