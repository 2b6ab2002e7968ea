"""The tokenizer of an artifact, through the `tokenizers` library alone, as an app would load it."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer


class FileTokenizer:
    """Reads tokenizer.json, and the longest input and the padding token from tokenizer_config.json."""

    def __init__(self, root: Path) -> None:
        settings = json.loads((root / "tokenizer_config.json").read_text(encoding="utf-8"))
        self._tokenizer = Tokenizer.from_file(str(root / "tokenizer.json"))
        self._tokenizer.enable_truncation(max_length=settings["model_max_length"])
        pad = settings["pad_token"]
        text = pad if isinstance(pad, str) else pad["content"]
        self._tokenizer.enable_padding(pad_id=self._tokenizer.token_to_id(text), pad_token=text)

    def encode(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """Return input_ids and attention_mask, each (batch, tokens) int64, padded to the longest text."""
        encodings = self._tokenizer.encode_batch_fast(list(texts))
        return {
            "input_ids": np.array([encoding.ids for encoding in encodings], dtype=np.int64),
            "attention_mask": np.array([encoding.attention_mask for encoding in encodings], dtype=np.int64),
        }
