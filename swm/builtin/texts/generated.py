"""Text that the original model itself writes."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, final

import torch
from pydantic import Field, TypeAdapter, ValidationError

from swm.checkpoint.reload import generate
from swm.errors import TextError
from swm.files.writing import write_text
from swm.interfaces.text import DenseModel, Purpose, TextSource
from swm.model.finite import checked_scores
from swm.model.lengths import fitting_length
from swm.model.quiet import quiet_transformers
from swm.model.text_config import text_config
from swm.text.vocabulary import bos_id, pad_id

_KEPT = TypeAdapter(Annotated[list[str], Field(min_length=1)])


@final
@dataclass(frozen=True)
class Generated(TextSource):
    """`count` documents of at most `tokens` tokens, sampled from the dense model, so that no data set is needed.

    Each begins with the BOS token where there is one; with `begin: drawn`, and where there is none, with a token drawn
    from those of the vocabulary that are not special. After a BOS token that opens a turn of a chat a model writes
    chats, and plain text of many kinds after drawn ones. Written once for a model and these parameters, and kept in the
    cache. Source: data-free training, arXiv 2305.17888, whose first tokens are drawn.
    """

    name: ClassVar[str] = "generated"
    from_model: ClassVar[bool] = True

    count: Annotated[int, Field(ge=2, le=10**7)] = 256
    tokens: Annotated[int, Field(ge=8, le=2**20)] = 128
    temperature: Annotated[float, Field(gt=0)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    batch: Annotated[int, Field(ge=1, le=2**16)] = 32
    begin: Literal["bos", "drawn"] = "bos"

    def documents(self, purpose: Purpose) -> Iterable[str]:
        raise TextError("generated text serves calibration and recovery in a run, where the model writes it; not here")

    def written_by(self, dense: DenseModel) -> Sequence[str]:
        file = dense.cache / "generated" / f"{self._key(dense)}.json"
        try:
            return _KEPT.validate_json(file.read_bytes())
        except FileNotFoundError:
            pass
        except (OSError, ValidationError) as error:
            dense.note(
                f"the text that the model had written, {file.name}, was damaged and was written anew "
                f"({_describe(error)})"
            )
            _remove(file)
        texts = self._write(dense)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps(texts))
        return texts

    def _key(self, dense: DenseModel) -> str:
        about = {**self.spec(), "model": dense.fingerprint, "version": 2}
        return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]

    def check_model(self, config: Any) -> None:
        limit = fitting_length(config, self.tokens)
        if limit < self.tokens:
            raise TextError(
                f"generated text of {self.tokens} tokens; the model takes at most {limit}, as in "
                f"{{name: generated, tokens: {limit}}}"
            )

    @torch.no_grad()
    def _write(self, dense: DenseModel) -> list[str]:
        model, tokenizer = dense.model, dense.tokenizer
        self.check_model(model.config)
        generator = torch.Generator().manual_seed(self.seed)
        pieces: list[str] = []
        with dense.progress.task("the model writes text", self.count) as task, torch.random.fork_rng():
            torch.manual_seed(self.seed)
            while len(pieces) < self.count:
                size = min(self.batch, self.count - len(pieces))
                begin = self._beginnings(tokenizer, size, text_config(model.config).vocab_size, generator).to(
                    model.device
                )
                with quiet_transformers():
                    output: Any = generate(
                        model,
                        begin,
                        max_new_tokens=self.tokens - 1,
                        do_sample=True,
                        temperature=self.temperature,
                        top_p=self.top_p,
                        top_k=0,
                        eos_token_id=model.generation_config.eos_token_id,
                        pad_token_id=pad_id(tokenizer),
                        logits_processor=[checked_scores(model.dtype)],
                    )
                pieces += tokenizer.batch_decode(output, skip_special_tokens=True)
                task.advance(size)
        return pieces

    def _beginnings(self, tokenizer: Any, size: int, vocabulary: int, generator: torch.Generator) -> torch.Tensor:
        """The first token of each document, `[size, 1]`.

        Args:
            tokenizer: The model's tokenizer.
            size: The number of documents.
            vocabulary: The model's number of embeddings.
            generator: Draws the tokens.
        """
        first = bos_id(tokenizer)
        if first is not None and self.begin == "bos":
            return torch.full((size, 1), first)
        special = set(tokenizer.all_special_ids)
        plain = torch.tensor([i for i in range(min(vocabulary, len(tokenizer))) if i not in special])
        return plain[torch.randint(0, len(plain), (size, 1), generator=generator)]


def _describe(error: OSError | ValidationError) -> str:
    return error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error.strerror or error)


def _remove(file: Path) -> None:
    if file.is_dir():
        shutil.rmtree(file)
    else:
        file.unlink(missing_ok=True)
