"""The language model in an artifact's folder or in one file: found, and loaded into the runtime that an app would use.

A GGUF file runs in llama.cpp and a folder with genai_config.json in onnxruntime-genai, whoever wrote it; a checkpoint
of transformers, such as a teacher, in PyTorch.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from edgedistill.errors import ModelError, RecipeError
from edgedistill.files import size_of
from edgedistill.models import sentence_transformers
from edgedistill.models.config_json import is_causal, read_config
from edgedistill.runtimes._decoder import LoadedDecoder

CONTEXT_TOKENS = 4096  # unless another number is asked for, or the model has fewer positions
THREADS = 1  # unless more are asked for: more than there are idle cores make llama.cpp many times slower
ENCODING = re.compile(r"[-.](?P<word>[A-Za-z0-9_]+)\.gguf$")  # the last part of a name by GGUF's convention
FLOAT32 = ("f32", "float32")
FLOATS = (*FLOAT32, "f16", "bf16")
PREFERRED = ("q4_k_m", "onnx_int4")
GENAI = "genai_config.json"
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


@dataclass(frozen=True)
class LanguageModel:
    """A language model, loaded, and what is known of it."""

    decoder: LoadedDecoder
    name: str  # of its file or folder
    runtime: str  # a word of edgedistill/runtimes
    conversations: bool  # whether a text is to be put into its chat template
    longest_tokens: int  # that it has positions for
    system: str | None = None  # said before every conversation that it learned from, as its file says


@dataclass(frozen=True)
class _Place:
    """Where a model lies, and what its files say of it."""

    runtime: str
    root: Path
    file: str
    longest_tokens: int
    trained_on: str | None = None  # documents, conversations; None where nothing says
    system: str | None = None

    @property
    def name(self) -> str:
        return self.file or self.root.name


def is_there(artifact: Path) -> bool:
    """Whether a path is a GGUF file, or a folder with a language model."""
    if artifact.is_file():
        return artifact.suffix == ".gguf"
    if sentence_transformers.is_there(artifact):
        return False  # whose .gguf files are a sentence encoder's
    return bool(_variants(artifact)) or (artifact / GENAI).is_file() or _is_checkpoint(artifact)


def found_below(folder: Path) -> str:
    """Return which artifacts lie in a folder that is none itself, as the end of an error; empty where none does."""
    below = sorted(folder.iterdir()) if folder.is_dir() else []
    names = [one.name for one in below if one.is_dir() and (is_there(one) or any(one.glob("onnx/model*.onnx")))]
    return f"; it holds: {', '.join(names)}" if names else ""


def open_model(
    artifact: Path, variant: str | None = None, *, threads: int | None = None, context_tokens: int | None = None
) -> LanguageModel:
    """Load a language model.

    Args:
        artifact: a .gguf file, a folder of them, one for onnxruntime-genai, a folder of those, or a checkpoint's.
        variant: of an artifact's models, the encoding in the file's name, such as q4_k_m, or the folder's name;
            float32 is f32. None prefers q4_k_m and onnx_int4, then the largest that is quantized.
        threads: None takes THREADS.
        context_tokens: most tokens of prompt and answer together; None takes CONTEXT_TOKENS, or what the model has.

    Raises:
        RecipeError: there is no language model, or none of this variant.
        ModelError: it cannot be loaded, or was not made for so long a context.
    """
    place = _place(artifact, variant)
    if context_tokens is not None and context_tokens > place.longest_tokens:
        raise RecipeError(f"{place.name} has {place.longest_tokens} positions; ask for a context of at most that")
    runtime: Any = import_module(f"edgedistill.runtimes.{place.runtime}")
    decoder: LoadedDecoder = runtime.load(
        place.root,
        place.file,
        threads=threads or THREADS,
        context_tokens=context_tokens or min(CONTEXT_TOKENS, place.longest_tokens),
    )
    conversations = place.trained_on != "documents" and has_template(decoder)
    return LanguageModel(decoder, place.name, place.runtime, conversations, place.longest_tokens, place.system)


def has_template(decoder: LoadedDecoder) -> bool:
    """Whether a model's files say how a conversation is put together."""
    try:
        rendered(decoder, [{"role": "user", "content": "a"}])
    except _NoTemplate:
        return False
    except ModelError:
        return True  # one that wants something else than a single message
    return True


class _NoTemplate(ModelError):
    """The model's files have no chat template."""


def rendered(decoder: LoadedDecoder, messages: list[Mapping[str, str]]) -> list[int]:
    """Return the ids of a conversation up to where the assistant is to speak.

    Raises:
        ModelError: there is no chat template, or it does not take these messages.
    """
    from jinja2 import TemplateError

    try:
        return decoder.chat(messages)
    except ModelError as error:
        raise _NoTemplate(str(error)) from error
    except (TemplateError, TypeError, ValueError) as error:  # the last: how llama-cpp-python tells a template's refusal
        reason = " ".join(str(error).split())[:200]
        roles = ", ".join(message["role"] for message in messages[:3])
        raise ModelError(f"this model's chat template does not take {roles}: {reason}; leave out --system") from error


def _place(artifact: Path, variant: str | None) -> _Place:
    if not is_there(artifact):
        raise RecipeError(
            f"{artifact} has no language model; name a .gguf file, or a folder below artifacts/ of a run"
            f"{found_below(artifact)}"
        )
    if artifact.is_file():
        if variant is not None:
            raise RecipeError(
                f"{artifact.name} is one file, which has no variant {variant!r}; name its folder for that"
            )
        return _gguf(artifact)
    if _variants(artifact):
        chosen = _chosen(artifact, variant)
        return _gguf(chosen) if chosen.is_file() else _genai(artifact, chosen.name)
    if variant is not None:
        raise RecipeError(f"{artifact} is one model, which has no variant {variant!r}; leave out --variant")
    if (artifact / GENAI).is_file():
        return _genai(artifact, "")
    longest = read_config(artifact).get("max_position_embeddings")
    if not isinstance(longest, int):
        raise ModelError(f"{artifact}/config.json does not say max_position_embeddings; add it")
    return _Place("pytorch_decoder", artifact, "", longest)


def _gguf(file: Path) -> _Place:
    try:
        from edgedistill.models import gguf_header

        said = gguf_header.metadata(file)
    except ImportError as error:
        raise ModelError(f"GGUF files need another package ({error}); run: pip install 'edgedistill[gguf]'") from None
    architecture = said.get("general.architecture", "")
    longest = said.get(f"{architecture}.context_length")
    if said.get(f"{architecture}.attention.causal") is False or not isinstance(longest, int):
        raise ModelError(f"{file.name} (architecture {architecture or 'unknown'}) is no language model; name another")
    return _Place("llama_cpp", file.parent, file.name, longest, *_learned(said))


def _genai(root: Path, file: str) -> _Place:
    try:
        longest = json.loads((root / file / GENAI).read_text(encoding="utf-8"))["model"]["context_length"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{root / file / GENAI} does not say model.context_length ({error}); export it again"
        ) from error
    return _Place("onnxruntime_genai", root, file, int(longest), *_learned(_properties(root / file / "model.onnx")))


def _properties(graph: Path) -> dict[str, str]:
    import onnx

    try:
        return {one.key: one.value for one in onnx.load(graph, load_external_data=False).metadata_props}
    except Exception:  # protobuf has classes of its own for a damaged file; whether it can be run the runtime says
        return {}


def _learned(said: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Return on what the model was trained, and under what words of the system, as its metadata says."""
    on, under = (said.get(f"edgedistill.{key}") for key in ("trained_on", "system"))
    return on if isinstance(on, str) else None, under if isinstance(under, str) else None


def _variants(folder: Path) -> dict[str, Path]:
    """Return an artifact's models by variant, the smallest first."""
    found = {_encoding(file): file for file in sorted(folder.glob("*.gguf"))}
    found |= {file.parent.name.lower(): file.parent for file in sorted(folder.glob(f"*/{GENAI}"))}
    return dict(sorted(found.items(), key=lambda one: _bytes(one[1])))


def _bytes(place: Path) -> int:
    return place.stat().st_size if place.is_file() else size_of(place)


def _chosen(folder: Path, variant: str | None) -> Path:
    variants = _variants(folder)
    if variant is not None:
        wanted = variant.lower().removeprefix("gguf_")
        for word in FLOAT32 if wanted in FLOAT32 else (wanted,):
            if word in variants:
                return variants[word]
        raise RecipeError(f"{folder} has no variant {variant!r}; choose one of: {', '.join(variants)}")
    preferred = [variants[word] for word in PREFERRED if word in variants]
    quantized = [place for word, place in variants.items() if word not in FLOATS]
    return (preferred or (quantized or list(variants.values()))[-1:])[0]


def _encoding(file: Path) -> str:
    found = ENCODING.search(file.name)
    return found["word"].lower() if found else file.stem.lower()


def _is_checkpoint(folder: Path) -> bool:
    if not any((folder / name).is_file() for name in WEIGHTS):
        return False
    try:
        return is_causal(read_config(folder))
    except ModelError:
        return False
