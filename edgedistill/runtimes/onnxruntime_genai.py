"""onnxruntime-genai on the CPU: a folder with graph, weights, genai_config.json, tokenizer and chat template.

Its generator keeps the KV cache and hands out the logits of all that was read last. The cache is allocated whole, for
as many tokens as the context has. A prefill computes the logits after every token of a prompt, the last one's or not.

Source: https://onnxruntime.ai/docs/genai/api/python.html
"""

import json
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.errors import ModelError
from edgedistill.runtimes._decoder import check_context, check_readable

SERVES = frozenset({"decoder"})
FLOAT_BYTES = 4
END_OF_TEXT_IN_C = "\0"  # the library takes and gives C strings
NAME_OF_NUL = "Ā"  # how byte-level tokenizers spell the byte 0


class GenaiModel:
    """One model, its tokenizer, and a generator, which holds the KV cache."""

    def __init__(self, folder: Path, *, threads: int, exact: bool, context_tokens: int) -> None:
        library, settings = _library(), _settings(folder)
        said = settings["model"]
        check_context(context_tokens, said["context_length"], folder.name)
        self._library, self._folder = library, folder
        self._model = _load(library, folder, _overlay(threads, exact, context_tokens))
        self._tokenizer = library.Tokenizer(self._model)
        self._tokenizer.update_options(skip_special_tokens="false")
        wanted = library.GeneratorParams(self._model)
        wanted.set_search_options(max_length=context_tokens)
        self._generator = library.Generator(self._model, wanted)
        self._shape = said["decoder"]
        self._ends = said["eos_token_id"]
        self.threads = threads  # the library does not say it; its session was told so
        self.context_tokens = context_tokens
        self.vocabulary = int(said["vocab_size"])

    @property
    def begin(self) -> tuple[int, ...]:
        """Ids that the tokenizer puts before a document."""
        whole, bare = (self._plain.encode("a", add_special_tokens=adds).ids for adds in (True, False))
        return tuple(whole[: whole.index(bare[0])])

    @property
    def ends(self) -> frozenset[int]:
        """Ids after which there is nothing to say."""
        return frozenset(self._ends if isinstance(self._ends, list) else [self._ends])

    def encode(self, text: str, *, special: bool) -> list[int]:
        """Return the ids of a text; nothing is put before or after them.

        The library reads names of special tokens as these, always, and ends a text at a NUL. What it cannot read so is
        read by `tokenizers`, from the same file.
        """
        readable = text.encode("utf-8", errors="replace").decode("utf-8")
        if special and END_OF_TEXT_IN_C not in readable:
            return [int(token) for token in self._tokenizer.encode(readable)]
        tokenizer = self._parsing if special else self._plain
        return list(tokenizer.encode(readable, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, names of special tokens included; bytes that are no character become U+FFFD."""
        given = np.asarray(ids, dtype=np.int32)
        if self._nul is not None and self._nul in given:
            return str(self._parsing.decode(given.tolist(), skip_special_tokens=False))
        return str(self._tokenizer.decode(given))

    def logits(self, ids: Sequence[int]) -> np.ndarray:
        """Return the logits after each id of a row, (tokens, vocabulary) float32."""
        self.reset()
        check_readable(self, ids, 0)
        self._read(ids)
        said: np.ndarray = self._generator.get_output("logits")[0]
        self.reset()
        return said.copy()

    def prefill(self, ids: Sequence[int]) -> np.ndarray:
        """Read ids after all that was read; return the logits after the last one, (vocabulary,) float32."""
        check_readable(self, ids, int(self._generator.token_count()))
        self._read(ids)
        last: np.ndarray = self._generator.get_logits().reshape(-1)
        return last.copy()

    def step(self, token: int) -> np.ndarray:
        """Read one id more, and return the logits after it, (vocabulary,) float32."""
        return self.prefill((token,))

    def reset(self) -> None:
        """Forget all that was read."""
        if self._generator.token_count():
            self._generator.rewind_to(0)

    def rewind(self, tokens: int) -> bool:
        """Keep the first `tokens` of what was read, and forget the rest; this cache can always be cut."""
        self._generator.rewind_to(tokens)
        return True

    def chat(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Return the ids of a conversation, put together by the folder's own template.

        Raises:
            ModelError: there is no template.
            ValueError: it does not take these messages.
        """
        if not (self._folder / "chat_template.jinja").is_file():
            raise ModelError("this folder has no chat template (chat_template.jinja); give it a plain prompt")
        given = json.dumps([dict(message) for message in messages], ensure_ascii=False)
        try:
            said = self._tokenizer.apply_chat_template(given, add_generation_prompt=True)
        except Exception as error:  # the bindings throw whatever their library does
            raise ValueError(str(error)) from error
        return self.encode(said, special=True)

    def kv_cache_bytes(self, tokens: int) -> int:
        """Return the bytes that keys and values of so many tokens take in float32."""
        heads = self._shape["num_hidden_layers"] * self._shape["num_key_value_heads"]
        return int(2 * tokens * heads * self._shape["head_size"] * FLOAT_BYTES)

    def _read(self, ids: Sequence[int]) -> None:
        self._generator.append_tokens(np.asarray(ids, dtype=np.int32))

    @cached_property
    def _nul(self) -> int | None:
        token = self._tokenizer.to_token_id(NAME_OF_NUL)
        return None if token is None or token < 0 else int(token)

    @cached_property
    def _parsing(self) -> Any:
        from tokenizers import Tokenizer

        return Tokenizer.from_file(str(self._folder / "tokenizer.json"))

    @cached_property
    def _plain(self) -> Any:
        from tokenizers import Tokenizer

        made = Tokenizer.from_file(str(self._folder / "tokenizer.json"))
        made.encode_special_tokens = True
        return made


def _library() -> Any:
    """Return the bindings.

    Raises:
        ModelError: they are not installed.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before its first import
    try:
        import onnxruntime_genai
    except ImportError as error:
        raise ModelError(f"onnxruntime-genai is missing ({error}); run: pip install 'edgedistill[genai]'") from None
    return onnxruntime_genai


def _settings(folder: Path) -> dict[str, Any]:
    file = folder / "genai_config.json"
    if not file.is_file():
        raise ModelError(
            f"{file} is not there; name a folder that onnxruntime-genai's model builder made, or an artifact's"
        )
    try:
        said: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        for key in ("context_length", "vocab_size", "eos_token_id", "decoder"):
            said["model"][key]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{file} is not a model's settings ({error}); export it again") from None
    return said


def _overlay(threads: int, exact: bool, context_tokens: int) -> str:
    session: dict[str, Any] = {"intra_op_num_threads": threads, "inter_op_num_threads": 1}
    if exact:
        session["graph_optimization_level"] = "ORT_DISABLE_ALL"
    return json.dumps({"model": {"decoder": {"session_options": session}}, "search": {"max_length": context_tokens}})


def _load(library: Any, folder: Path, overlay: str) -> Any:
    try:
        config = library.Config(str(folder))
        config.overlay(overlay)
        return library.Model(config)
    except Exception as error:  # the bindings raise RuntimeError, and whatever their library throws
        first = str(error).strip().partition("\n")[0][:300]
        raise ModelError(
            f"{folder} is not a model that onnxruntime-genai can load ({first}); export it again"
        ) from None


def load(root: Path, file: str, *, threads: int, context_tokens: int, exact: bool = False) -> GenaiModel:
    """Load a folder.

    Args:
        root: folder of the artifact.
        file: the model's folder in it; empty where it is the root itself.
        threads: of one operator; operators run one after another.
        context_tokens: most tokens that it is to read at a time; the KV cache is allocated for all of them.
        exact: the graph as it is written, no optimizations.

    Raises:
        ModelError: the library is missing, the folder is none that it can load, or it has fewer positions.
    """
    return GenaiModel(root / file, threads=threads, exact=exact, context_tokens=context_tokens)


def versions() -> dict[str, str]:
    """Return what decides this runtime's numbers."""
    from importlib.metadata import version

    _library()
    return {name: version(name) for name in ("onnxruntime-genai", "onnxruntime")}
