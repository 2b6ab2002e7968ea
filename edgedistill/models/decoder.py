"""Decoders: causal language models, which teachers and students of text generation are."""

import inspect
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from edgedistill.errors import ModelError
from edgedistill.models.config_json import read_config
from edgedistill.models.load import CAUSAL, from_pretrained

CAUSAL_HEADS = ("ForCausalLM", "LMHeadModel")
"""How the names of transformers' classes end that say the next token."""


class Decoder(nn.Module):
    """A causal language model of transformers, called with ids and mask alone."""

    OUTPUT = "logits"

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        parameters = inspect.signature(model.forward).parameters
        self._numbered = "position_ids" in parameters  # ALiBi counts the mask itself
        self._cuts = "logits_to_keep" in parameters  # its head need not be computed after every token

    @property
    def vocab_size(self) -> int:
        """Rows of the token table, and logits at each token; the tokenizer may know fewer ids."""
        return int(self.model.get_input_embeddings().num_embeddings)

    @property
    def width(self) -> int:
        """Numbers in an answer at each token."""
        return self.vocab_size

    def around(self, model: Any) -> "Decoder":
        """Return another causal language model, called in the same way."""
        return Decoder(model)

    @property
    def token_table(self) -> Any:
        """What gives each token its vector."""
        return self.model.get_input_embeddings()

    def replace_token_table(self, table: nn.Module) -> None:
        """Put another module where the token table is, and where the head is the same table, there too."""
        self.model.set_input_embeddings(table)
        self.model.tie_weights()

    def forward(self, input_ids: Tensor, attention_mask: Tensor, kept: Tensor | None = None) -> Tensor:
        """Return logits of the token after each, (batch, tokens, vocab) float32; at padding they mean nothing.

        Args:
            input_ids: (batch, tokens) int64.
            attention_mask: (batch, tokens) int64; 1 where a token is read, 0 at the padding after the last one.
            kept: (kept,) int64; only logits after these tokens are returned, (batch, kept, vocab); None returns all.
        """
        positions = (attention_mask.cumsum(-1) - 1).clamp(min=0)  # (batch, tokens)
        numbered = {"position_ids": positions} if self._numbered else {}
        cut = {"logits_to_keep": kept} if kept is not None and self._cuts else {}
        said = self.model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False, **numbered, **cut)
        logits: Tensor = (said.logits if kept is None or self._cuts else said.logits[:, kept]).float()
        return logits

    def save(self, folder: Path) -> None:
        """Write config.json, generation_config.json and model.safetensors."""
        self.model.save_pretrained(folder)


def load_decoder(folder: Path, attention: str | None = "eager") -> Decoder:
    """Return the causal language model in `folder`, on the CPU, as float32, in evaluation mode.

    Args:
        folder: a checkpoint of transformers; one inside a GGUF file is unpacked into such a folder when it is resolved.
        attention: implementation, in transformers' words; `eager` is what exporters read best, None is what a user
            gets who asks for nothing.

    Raises:
        ModelError: the checkpoint is none, or its files do not fit each other.
    """
    names = read_config(folder).get("architectures") or []
    if not any(name.endswith(CAUSAL_HEADS) for name in names):
        said = f"is a {names[0]}" if names else "names no architecture"
        raise ModelError(f"{folder} {said}, and a causal language model is needed, such as LlamaForCausalLM")
    return Decoder(from_pretrained(folder, factory=CAUSAL, attn_implementation=attention)).eval()
