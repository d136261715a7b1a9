"""Text to token ids, by the tokeniser that a model's folder brings along."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from archsim._errors import ArchsimError
from workloads import read_config

TOKENIZER = "tokenizer.json"
"""The tokeniser's file in a model's folder."""
MAX_TOKENIZER_BYTES = 1 << 26


def token_ids(directory: Path, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each of ``texts``, special tokens included, neither padded nor cut.

    ``directory`` holds ``tokenizer.json`` and ``config.json``. Raises ArchsimError where the tokeniser
    cannot be read and for a text of more tokens than the model has positions.
    """
    found = tokenised(directory, texts)
    positions = read_config(directory / "config.json").size("max_position_embeddings")
    for text, ids in zip(texts, found, strict=True):
        if len(ids) > positions:
            raise ArchsimError(
                f"a text must have at most {positions} tokens, the model's positions, not {len(ids)}: "
                f"{text[:40]!r}..."
            )
    return found


def tokenised(directory: Path, texts: Sequence[str]) -> list[list[int]]:
    """As :func:`token_ids`, of any length."""
    tokenizer = _tokenizer(directory / TOKENIZER)
    return [_encoded(tokenizer, text) for text in texts]


def _tokenizer(path: Path) -> Tokenizer:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_TOKENIZER_BYTES + 1)
    except OSError as error:
        raise ArchsimError(f"{path} must be a readable file: {error.strerror}") from error
    if len(raw) > MAX_TOKENIZER_BYTES:
        raise ArchsimError(f"{path} must be at most {MAX_TOKENIZER_BYTES} bytes, not larger")
    try:
        tokenizer = Tokenizer.from_buffer(raw)
    except Exception as error:  # the library raises nothing narrower
        raise ArchsimError(f"{path} must be a tokeniser of the tokenizers library: {error}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _encoded(tokenizer: Tokenizer, text: str) -> list[int]:
    try:
        return list(tokenizer.encode(text).ids)
    except Exception as error:  # the library raises nothing narrower
        raise ArchsimError(f"a text must be valid Unicode, not {text[:40]!r}: {error}") from error
