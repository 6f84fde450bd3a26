"""Short greedy answers, to see with one's own eyes what compression did."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from swm.checkpoint.reload import generate
from swm.errors import TextError, brief, quoted
from swm.model.finite import checked_scores
from swm.model.quiet import quiet_transformers
from swm.text.vocabulary import check_ids, encode, pad_id


def prompt_ids(tokenizer: Any, prompt: str) -> list[int]:
    """The prompt's ids, in the tokenizer's chat format if it has one.

    Raises TextError for an id without an embedding, where the format cannot be filled in, and where nothing is left.
    """
    ids = check_ids(tokenizer, _in_chat(tokenizer, prompt)) if tokenizer.chat_template else encode(tokenizer, prompt)
    if not ids:
        raise TextError(f"prompt {quoted(prompt)} gives no token; write something that the model can answer")
    return ids


def _in_chat(tokenizer: Any, prompt: str) -> list[int]:
    messages = [{"role": "user", "content": prompt}]
    try:
        encoded = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)
        ids: list[int] = encoded["input_ids"]
    except Exception as error:  # a template is a program of the model's authors
        raise TextError(f"the tokenizer's chat template cannot take a prompt: {brief(error)}") from error
    return ids


@torch.no_grad()
def answer_prompts(model: Any, tokenizer: Any, prompts: Sequence[str], max_new_tokens: int) -> list[str]:
    """Answer each prompt greedily, up to the EOS token.

    Args:
        model: A causal language model.
        tokenizer: The model's tokenizer.
        prompts: The prompts as a user writes them.
        max_new_tokens: The most tokens of one answer.

    Returns:
        The answers in the order of the prompts.

    Raises:
        ModelError: For scores that are not finite.
    """
    replies = []
    for prompt in prompts:
        ids = torch.tensor([prompt_ids(tokenizer, prompt)], device=model.device)
        with quiet_transformers():
            output = generate(
                model,
                ids,
                max_new_tokens=max_new_tokens,
                eos_token_id=model.generation_config.eos_token_id,
                pad_token_id=pad_id(tokenizer),
                logits_processor=[checked_scores(model.dtype)],
            )
        replies.append(tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True).strip())
    return replies
