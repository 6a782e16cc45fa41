"""What a text encoder can read of a prompt, as its tokenizer shows."""

from typing import Any


def check_prompt(prompt: str, tokenizer: Any, length: int) -> None:
    """Raise a ValueError of one sentence unless the prompt is a text of at most `length` tokens, both ends included."""
    if not isinstance(prompt, str):
        raise ValueError(f"the prompt is of type {type(prompt).__name__}: pass a text.")
    tokens = len(tokenizer(prompt, verbose=False).input_ids)
    if tokens > length:
        raise ValueError(
            f"the prompt has {tokens - 2} tokens, but the text encoder reads {length - 2} at most: shorten it."
        )


def untaught_words(prompt: str, tokenizer: Any) -> list[str]:
    """The prompt's words that the tokenizer breaks into single letters, or has no token for, each once, in order."""
    words = dict.fromkeys(word.strip(",.;:!?") for word in prompt.split())
    return [word for word in words if _is_spelt(tokenizer.tokenize(word), tokenizer.unk_token)]


def _is_spelt(pieces: list[str], unknown: str) -> bool:
    parts = [part.split() for part in " ".join(pieces).split("</w>")]  # "it's" may be several parts to a tokenizer
    return unknown in pieces or any(len(part) > 1 and min(map(len, part)) == 1 for part in parts)
