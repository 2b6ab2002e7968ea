"""llama.cpp on the CPU, through the bindings of llama-cpp-python; all that it needs is in one GGUF file.

The bindings' C functions are called and not their class `Llama`: it keeps a float for every logit of a whole batch, and
leaves out flash attention, which llama.cpp's own programs switch on. Nothing is drawn at random here.

Source: https://github.com/ggml-org/llama.cpp/blob/master/include/llama.h
"""

import ctypes
import weakref
from collections.abc import Mapping, Sequence, Set
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.errors import ModelError
from edgedistill.runtimes import _llama
from edgedistill.runtimes._decoder import check_context, check_readable

SERVES = frozenset({"decoder"})
ROWS_AT_ONCE = 512  # llama.cpp's own micro-batch: so many logits are in its memory, however long the row


class GgufModel:
    """One model and one context, which holds the KV cache."""

    def __init__(self, file: Path, *, threads: int, exact: bool, context_tokens: int) -> None:
        self._lib = lib = _llama.library()
        self._model = _llama.load_model(lib, file)
        self._vocab = lib.llama_model_get_vocab(self._model)
        weakref.finalize(self, lib.llama_model_free, self._model)
        check_context(context_tokens, lib.llama_model_n_ctx_train(self._model), file.name)
        self._context = lib.llama_init_from_model(self._model, _settings(lib, threads, exact, context_tokens))
        if not self._context:
            raise ModelError(
                f"{file.name}: llama.cpp cannot make a context of {context_tokens} tokens; is there memory?"
            )
        if lib.llama_pooling_type(self._context) > lib.LLAMA_POOLING_TYPE_NONE:
            lib.llama_free(self._context)
            raise ModelError(
                f"{file.name} is a sentence encoder, and no language model; name the folder that it lies in"
            )
        weakref.finalize(self, lib.llama_free, self._context)  # called before the model's, as it was made later
        self._batch = lib.llama_batch_init(context_tokens, 0, 1)
        weakref.finalize(self, lib.llama_batch_free, self._batch)
        self._read = 0
        self._number_bytes = 4 if exact else 2  # of a key or value
        self.context_tokens = context_tokens
        self.vocabulary: int = lib.llama_vocab_n_tokens(self._vocab)

    @property
    def threads(self) -> int:
        """Threads of prefill and of decode, of which the larger counts."""
        return int(max(self._lib.llama_n_threads(self._context), self._lib.llama_n_threads_batch(self._context)))

    @property
    def begin(self) -> tuple[int, ...]:
        """Ids that the tokenizer puts before a document."""
        adds = self._lib.llama_vocab_get_add_bos(self._vocab)
        return (int(self._lib.llama_vocab_bos(self._vocab)),) if adds else ()

    @cached_property
    def ends(self) -> frozenset[int]:
        """Ids after which there is nothing to say."""
        return frozenset(i for i in range(self.vocabulary) if self._lib.llama_vocab_is_eog(self._vocab, i))

    def encode(self, text: str, *, special: bool) -> list[int]:
        """Return the ids of a text; nothing is put before or after them."""
        raw = text.encode("utf-8", errors="replace")
        room = len(raw) + 2
        ids = (self._lib.llama_token * room)()
        count = self._lib.llama_tokenize(self._vocab, raw, len(raw), ids, room, False, special)
        if count < 0:
            raise ModelError(f"llama.cpp cannot tokenize a text of {len(raw)} bytes; is it over 2 GB?")
        return list(ids[:count])

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, names of special tokens included; bytes that are no character become U+FFFD."""
        given = (self._lib.llama_token * len(ids))(*map(int, ids))
        room = 16 * len(ids) + 16
        text = ctypes.create_string_buffer(room)
        count = self._lib.llama_detokenize(self._vocab, given, len(ids), text, room, False, True)
        if count < 0:
            text = ctypes.create_string_buffer(-count)
            count = self._lib.llama_detokenize(self._vocab, given, len(ids), text, -count, False, True)
        return text.raw[:count].decode("utf-8", errors="replace")

    def logits(self, ids: Sequence[int]) -> np.ndarray:
        """Return the logits after each id of a row, (tokens, vocabulary) float32."""
        return self.logits_at(ids, range(len(ids)))

    def logits_at(self, ids: Sequence[int], places: Sequence[int]) -> np.ndarray:
        """Return the logits after some ids of a row, (places, vocabulary) float32; the others cost no head.

        Args:
            ids: of the row.
            places: of those that are asked for, ascending, each once.
        """
        self.reset()
        check_readable(self, ids, 0)
        said = np.empty((len(places), self.vocabulary), dtype=np.float32)
        done = 0
        for start in range(0, len(ids), ROWS_AT_ONCE):
            some = ids[start : start + ROWS_AT_ONCE]
            wanted = {place - start for place in map(int, places) if start <= place < start + len(some)}
            said[done : done + len(wanted)] = self._decode(some, wanted)
            done += len(wanted)
        self.reset()
        return said

    def prefill(self, ids: Sequence[int]) -> np.ndarray:
        """Read ids after all that was read; return the logits after the last one, (vocabulary,) float32."""
        check_readable(self, ids, self._read)
        last: np.ndarray = self._decode(ids, {len(ids) - 1})[0]
        return last.copy()

    def step(self, token: int) -> np.ndarray:
        """Read one id more, and return the logits after it, (vocabulary,) float32."""
        return self.prefill((token,))

    def reset(self) -> None:
        """Forget all that was read."""
        self._lib.llama_memory_clear(self._lib.llama_get_memory(self._context), True)
        self._read = 0

    def rewind(self, tokens: int) -> bool:
        """Keep the first `tokens` of what was read; False, and all is forgotten, where the cache cannot be cut."""
        memory = self._lib.llama_get_memory(self._context)
        whole = self._lib.llama_memory_seq_pos_min(memory, 0) == 0  # a sliding window has let go of the first ones
        if not (whole and self._lib.llama_memory_seq_rm(memory, 0, tokens, -1)):
            self.reset()
            return False
        self._read = tokens
        return True

    def chat(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Return the ids of a conversation, put together by the file's own template."""
        from llama_cpp import llama_chat_format

        formatter: Any = llama_chat_format.Jinja2ChatFormatter
        template = _llama.said(self._lib, self._model, "tokenizer.chat_template")
        if not template:
            raise ModelError("this GGUF file has no chat template (tokenizer.chat_template); give it a plain prompt")
        names = [self._name_of(find(self._vocab)) for find in (self._lib.llama_vocab_eos, self._lib.llama_vocab_bos)]
        said: str = formatter(template, *names)(messages=list(messages)).prompt
        return self.encode(said, special=True)

    def kv_cache_bytes(self, tokens: int) -> int:
        """Return the bytes that keys and values of so many tokens take: float16, or float32 where exact."""
        lib, model = self._lib, self._model
        name = _llama.said(self._lib, self._model, "general.architecture")
        even = lib.llama_model_n_embd(model) // lib.llama_model_n_head(model)
        widths = [
            int(_llama.said(self._lib, self._model, f"{name}.attention.{part}_length") or even)
            for part in ("key", "value")
        ]
        heads = lib.llama_model_n_layer(model) * lib.llama_model_n_head_kv(model)
        return int(tokens * heads * sum(widths) * self._number_bytes)

    def _decode(self, ids: Sequence[int], wanted: Set[int]) -> np.ndarray:
        """Read ids; return llama.cpp's own memory of the logits after those at `wanted`, (wanted, vocabulary)."""
        batch, count = self._batch, len(ids)
        batch.n_tokens = count
        for i, token in enumerate(ids):
            batch.token[i], batch.pos[i], batch.n_seq_id[i] = int(token), self._read + i, 1
            batch.seq_id[i][0] = 0
            batch.logits[i] = i in wanted
        failed = self._lib.llama_decode(self._context, batch)
        if failed:
            raise ModelError(f"llama.cpp could not read {count} tokens (code {failed}); load it with a longer context")
        self._read += count
        if not wanted:
            return np.empty((0, self.vocabulary), dtype=np.float32)
        return np.ctypeslib.as_array(self._lib.llama_get_logits(self._context), shape=(len(wanted), self.vocabulary))

    def _name_of(self, token: int) -> str:
        return "" if token < 0 else self._lib.llama_vocab_get_text(self._vocab, token).decode("utf-8")


def _settings(lib: Any, threads: int, exact: bool, context_tokens: int) -> Any:
    settings = lib.llama_context_default_params()
    settings.n_ctx = settings.n_batch = context_tokens
    settings.n_ubatch = min(ROWS_AT_ONCE, context_tokens)
    settings.n_threads = settings.n_threads_batch = threads
    settings.offload_kqv = settings.op_offload = False
    if exact:
        settings.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_DISABLED
        settings.type_k = settings.type_v = lib.GGML_TYPE_F32
    return settings


def load(root: Path, file: str, *, threads: int, context_tokens: int, exact: bool = False) -> GgufModel:
    """Load the GGUF file `file` in `root`.

    Args:
        root: the artifact's folder.
        file: of the model, relative to `root`; it holds the tokenizer too.
        threads: of prefill and decode alike; more than there are idle CPUs makes it slower, not faster.
        context_tokens: most tokens that it is to read at a time; the cache for them is taken at once.
        exact: keys and values in float32 and no flash attention, so that nothing is rounded but what the file rounds
            (products with quantized weights round their inputs, too: llama.cpp has no other kernels).

    Raises:
        ModelError: the bindings are missing, or the file cannot be loaded, or was not made for so long a context.
    """
    return GgufModel(root / file, threads=threads, exact=exact, context_tokens=context_tokens)


def versions() -> dict[str, str]:
    """Return what decides this runtime's numbers; the bindings are imported by it."""
    return _llama.versions()
