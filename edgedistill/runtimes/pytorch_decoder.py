"""PyTorch with transformers, as most users run a language model before they compress it."""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.errors import ModelError
from edgedistill.runtimes._decoder import check_context, check_readable

SERVES = frozenset({"decoder"})
FLOAT_BYTES = 4


class TorchDecoder:
    """A checkpoint as float32, its tokenizer, and the KV cache that transformers keeps for it."""

    def __init__(self, root: Path, *, threads: int, context_tokens: int, device: Any = "cpu") -> None:
        import torch

        from edgedistill.models.decoder import load_decoder
        from edgedistill.models.load import load_tokenizer

        torch.set_num_threads(threads)
        self.model, self.device = load_decoder(root, attention=None).model.to(device), device
        self._tokenizer = load_tokenizer(root)
        config = self.model.config
        check_context(context_tokens, config.max_position_embeddings, root.name)
        self.context_tokens = context_tokens
        self.vocabulary = int(self.model.get_input_embeddings().num_embeddings)
        parameters = inspect.signature(self.model.forward).parameters
        self._cache_word = "cache" if "cache" in parameters else "past_key_values"  # as transformers said before 5.24
        self._cache: Any = None
        self._read = 0

    @property
    def threads(self) -> int:
        """Threads of one operator, as PyTorch says it."""
        import torch

        return torch.get_num_threads()

    @property
    def begin(self) -> tuple[int, ...]:
        """Ids that the tokenizer puts before a document."""
        whole, bare = (self._tokenizer("a", add_special_tokens=adds)["input_ids"] for adds in (True, False))
        return tuple(whole[: whole.index(bare[0])])

    @property
    def ends(self) -> frozenset[int]:
        """Ids after which there is nothing to say."""
        named = self.model.generation_config.eos_token_id
        several = named if isinstance(named, list) else [named]
        return frozenset(i for i in (*several, self._tokenizer.eos_token_id) if i is not None)

    def encode(self, text: str, *, special: bool) -> list[int]:
        """Return the ids of a text; nothing is put before or after them."""
        encoded = self._tokenizer(
            _readable(text), add_special_tokens=False, split_special_tokens=not special, truncation=False, verbose=False
        )
        return list(encoded["input_ids"])

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, names of special tokens included; bytes that are no character become U+FFFD."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text

    def logits(self, ids: Sequence[int]) -> np.ndarray:
        """Return the logits after each id of a row, (tokens, vocabulary) float32."""
        self.reset()
        check_readable(self, ids, 0)
        said: np.ndarray = self._run(ids, use_cache=False).logits[0].float().cpu().numpy()
        return said

    def prefill(self, ids: Sequence[int]) -> np.ndarray:
        """Read ids after all that was read; return the logits after the last one, (vocabulary,) float32."""
        check_readable(self, ids, self._read)
        said = self._run(ids, use_cache=True, logits_to_keep=1, **{self._cache_word: self._cache})
        self._cache = said[self._cache_word]
        self._read += len(ids)
        last: np.ndarray = said.logits[0, -1].float().cpu().numpy()
        return last

    def step(self, token: int) -> np.ndarray:
        """Read one id more, and return the logits after it, (vocabulary,) float32."""
        return self.prefill((token,))

    def reset(self) -> None:
        """Forget all that was read."""
        self._cache, self._read = None, 0

    def rewind(self, tokens: int) -> bool:
        """Keep the first `tokens` of what was read; False, and all is forgotten, where the cache cannot be cut."""
        try:
            self._cache.crop(tokens - self._read)  # transformers wants how many to remove, as a negative number
        except (AttributeError, NotImplementedError, RuntimeError):  # no such cache, or a window that has moved on
            self.reset()
            return False
        self._read = tokens
        return True

    def chat(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Return the ids of a conversation, put together by the checkpoint's own template."""
        if not self._tokenizer.chat_template:
            raise ModelError("this checkpoint has no chat template (chat_template.jinja); give it a plain prompt")
        said = self._tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
        return self.encode(said, special=True)

    def kv_cache_bytes(self, tokens: int) -> int:
        """Return the bytes that keys and values of so many tokens take in float32."""
        config = self.model.config.get_text_config()
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return int(2 * tokens * config.num_hidden_layers * heads * width * FLOAT_BYTES)

    def _run(self, ids: Sequence[int], **settings: Any) -> Any:
        import torch

        with torch.inference_mode():
            return self.model(input_ids=torch.tensor([list(ids)], device=self.device), **settings)


def _readable(text: str) -> str:
    """Return the text with lone surrogates, which UTF-8 has no bytes for, replaced."""
    return text.encode("utf-8", errors="replace").decode("utf-8")


def load(
    root: Path,
    file: str = "",  # noqa: ARG001
    *,
    threads: int,
    context_tokens: int,
    exact: bool = False,  # noqa: ARG001
) -> TorchDecoder:
    """Load the checkpoint folder `root`; `file` and `exact` have no meaning here, PyTorch runs what is written.

    Args:
        root: with config.json, safetensors and tokenizer.
        file: not read.
        threads: of one operator.
        context_tokens: most tokens that it is to read at a time.
        exact: not read.

    Raises:
        ModelError: the checkpoint is no language model, its files do not fit, or it has fewer positions.
    """
    return TorchDecoder(root, threads=threads, context_tokens=context_tokens)


def versions() -> dict[str, str]:
    """Return what decides this runtime's numbers; the libraries and what they load late are imported by it."""
    import torch
    import transformers

    for name in ("AutoModelForCausalLM", "AutoTokenizer", "PreTrainedModel", "PreTrainedTokenizerFast"):
        getattr(transformers, name)  # it imports its parts when first asked for
    return {"torch": torch.__version__, "transformers": transformers.__version__}
