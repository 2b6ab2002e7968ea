"""llama.cpp's embedding mode on the CPU: sentence vectors from a GGUF file, which holds the tokenizer, too.

Texts are read by llama.cpp's own tokenizer, as its own programs do, and each alone: without padding, and without the
attention from text to text that a common batch would compute and mask. Whether vectors are normalised, and how long a
text may be, is in the file under keys of this project's; of a file without them, they are as llama.cpp's own programs
do: normalised, and as long as there are positions.

Source: https://github.com/ggml-org/llama.cpp/blob/master/include/llama.h, and examples/embedding there.
"""

import ctypes
import weakref
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.errors import ModelError
from edgedistill.runtimes import _llama
from edgedistill.runtimes._model import Encoded

SERVES = frozenset({"encoder"})


class GgufEncoder:
    """One model, and one context without a cache."""

    labels: tuple[str, ...] = ()
    several = False

    def __init__(self, file: Path, *, threads: int, exact: bool) -> None:
        self._lib = lib = _llama.library()
        self._model = _llama.load_model(lib, file)
        self._vocab = lib.llama_model_get_vocab(self._model)
        weakref.finalize(self, lib.llama_model_free, self._model)
        positions = int(lib.llama_model_n_ctx_train(self._model))
        self.longest_tokens = int(self._said("edgedistill.max_tokens") or positions)
        self._normalize = self._said("edgedistill.normalize") != "false"
        self._settings = _settings(lib, threads, exact, self.longest_tokens)
        self._context = self._opened(self._settings, file.name)
        weakref.finalize(self, lib.llama_free, self._context)  # called before the model's, as it was made later
        if lib.llama_pooling_type(self._context) == lib.LLAMA_POOLING_TYPE_NONE:
            raise ModelError(f"{file.name} does not say how it pools; name the .gguf file of a sentence encoder")
        self._batch = lib.llama_batch_init(self.longest_tokens, 0, 1)
        weakref.finalize(self, lib.llama_batch_free, self._batch)
        self._width = int(lib.llama_model_n_embd(self._model))

    @property
    def threads(self) -> int:
        """Threads of one operator, as llama.cpp says it."""
        return int(max(self._lib.llama_n_threads(self._context), self._lib.llama_n_threads_batch(self._context)))

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Return input_ids and attention_mask, each (batch, tokens) int64, padded to the longest text."""
        rows = [self._ids(text) for text in texts]
        shape = (len(rows), max(map(len, rows)))
        ids = np.full(shape, max(int(self._lib.llama_vocab_pad(self._vocab)), 0), dtype=np.int64)
        mask = np.zeros(shape, dtype=np.int64)
        for i, row in enumerate(rows):
            ids[i, : len(row)], mask[i, : len(row)] = row, 1
        return {"input_ids": ids, "attention_mask": mask}

    def run(self, encoded: Encoded) -> np.ndarray:
        """Return sentence vectors, (batch, width) float32."""
        rows = zip(encoded["input_ids"], encoded["attention_mask"], strict=True)
        vectors = np.stack([self._vector(self._context, ids[mask > 0].tolist()) for ids, mask in rows])
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True) if self._normalize else vectors

    def kernels(self) -> dict[str, int]:
        """Return ggml's operators with their counts, as it asks for each of them while a text is read."""
        name_of, ran = _namer(), Counter[str]()

        def asked(node: int, ask: bool, _user_data: Any) -> bool:
            if ask:
                ran[name_of(node).decode("ascii")] += 1
            return not ask

        settings = self._settings.__class__.from_buffer_copy(self._settings)
        settings.cb_eval = self._lib.ggml_backend_sched_eval_callback(asked)
        context = self._opened(settings, "the model")
        try:
            self._vector(context, self._ids("one text"))
        finally:
            self._lib.llama_free(context)
        return dict(sorted(ran.items()))

    def _opened(self, settings: Any, name: str) -> Any:
        context = self._lib.llama_init_from_model(self._model, settings)
        if not context:
            raise ModelError(
                f"{name}: llama.cpp cannot make a context of {self.longest_tokens} tokens; is there memory?"
            )
        return context

    def _said(self, key: str) -> str:
        return _llama.said(self._lib, self._model, key)

    def _ids(self, text: str) -> list[int]:
        """Return a text's ids; of a longer one the first ones, and what ends a text."""
        raw = text.encode("utf-8", errors="replace")
        room = len(raw) + 2
        ids = (self._lib.llama_token * room)()
        count = self._lib.llama_tokenize(self._vocab, raw, len(raw), ids, room, True, True)
        if count < 0:
            raise ModelError(f"llama.cpp cannot tokenize a text of {len(raw)} bytes; is it over 2 GB?")
        if count > self.longest_tokens:
            return [*ids[: self.longest_tokens - 1], ids[count - 1]]
        return list(ids[:count])

    def _vector(self, context: Any, ids: Sequence[int]) -> np.ndarray:
        batch = self._batch
        batch.n_tokens = len(ids)
        for i, token in enumerate(ids):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, i, 1, True
            batch.seq_id[i][0] = 0
        failed = self._lib.llama_encode(context, batch)
        if failed:
            raise ModelError(f"llama.cpp could not read {len(ids)} tokens (code {failed}); is there memory?")
        return np.ctypeslib.as_array(self._lib.llama_get_embeddings_seq(context, 0), shape=(self._width,)).copy()


def _settings(lib: Any, threads: int, exact: bool, tokens: int) -> Any:
    settings = lib.llama_context_default_params()
    settings.n_ctx = settings.n_batch = settings.n_ubatch = tokens
    settings.n_seq_max = 1
    settings.n_threads = settings.n_threads_batch = threads
    settings.embeddings = True
    settings.offload_kqv = settings.op_offload = False
    if exact:
        settings.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_DISABLED
    return settings


def _namer() -> Any:
    """Return ggml's function from a node of a graph to what it computes; Python's binding has none."""
    from llama_cpp._ctypes_extensions import load_shared_library
    from llama_cpp._ggml import libggml_base_path

    namer = load_shared_library("ggml-base", libggml_base_path).ggml_op_desc
    namer.argtypes, namer.restype = [ctypes.c_void_p], ctypes.c_char_p
    return namer


def load(root: Path, file: str, *, threads: int, exact: bool = False) -> GgufEncoder:
    """Load the GGUF file `file` in `root`.

    Args:
        root: the artifact's folder.
        file: of the model, relative to `root`.
        threads: of one operator; operators run one after another.
        exact: no flash attention, which rounds keys and values to half precision.

    Raises:
        ModelError: the bindings are missing, or the file cannot be loaded, or is of no sentence encoder.
    """
    return GgufEncoder(root / file, threads=threads, exact=exact)


def versions() -> dict[str, str]:
    """Return what decides this runtime's numbers; the bindings are imported by it."""
    return _llama.versions()
