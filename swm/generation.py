"""Short greedy answers, to see with one's own eyes what compression did."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from swm.quiet import quiet_transformers
from swm.reload import generate
from swm.vocabulary import check_ids, encode, pad_id


def prompt_ids(tokenizer: Any, prompt: str) -> list[int]:
    """The prompt's ids, in the tokenizer's chat format if it has one. Raises TextError for one without an embedding."""
    if not tokenizer.chat_template:
        return encode(tokenizer, prompt)
    encoded = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], add_generation_prompt=True, return_dict=True
    )
    return check_ids(tokenizer, encoded["input_ids"])


@torch.no_grad()
def answers(model: Any, tokenizer: Any, prompts: Sequence[str], max_new_tokens: int) -> list[str]:
    """The greedy answer to each prompt, up to the model's EOS token."""
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
            )
        replies.append(tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True).strip())
    return replies
