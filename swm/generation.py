"""Short greedy answers, to see with one's own eyes what compression did."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from swm.quiet import quiet_transformers


@torch.no_grad()
def answers(model: Any, tokenizer: Any, prompts: Sequence[str], max_new_tokens: int) -> list[str]:
    """The greedy answer to each prompt; in the tokenizer's chat format if it has one."""
    replies = []
    for prompt in prompts:
        if tokenizer.chat_template:
            messages = [{"role": "user", "content": prompt}]
            encoded = tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
            )
        else:
            encoded = tokenizer(prompt, return_tensors="pt")
        ids = encoded["input_ids"].to(model.device)
        with quiet_transformers():
            output = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=max_new_tokens,
                do_sample=False,
                pad_token_id=tokenizer.pad_token_id or tokenizer.eos_token_id or 0,
            )
        replies.append(tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True).strip())
    return replies
