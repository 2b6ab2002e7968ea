"""GGUF for sentence encoders: one file with weights, tokenizer and pooling, for llama.cpp's embedding mode.

llama.cpp computes BERT's activation by another formula and reads a few kinds of text as other tokens; parity measures
the one against a tolerance, and lets only those texts be read otherwise that are known for it.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Literal

from edgedistill.section import FormatOptions

RUNTIME = "llama_cpp_encoder"
APPROXIMATES = True
ENCODINGS: Mapping[str, str] = {"float32": "F32", "float16": "F16"}


class Options(FormatOptions):
    """A GGUF file of the float student, and one for `float16`."""

    format: Literal["gguf_encoder"]

    STORES: ClassVar[frozenset[str]] = frozenset(ENCODINGS)
    EXTRA: ClassVar[str] = "gguf"
    IMPORTS: ClassVar[tuple[str, ...]] = ("gguf", "llama_cpp")
    TASKS: ClassVar[frozenset[str]] = frozenset({"sentence_embedding"})


def refuses(config: Mapping[str, Any]) -> list[str]:
    """Return why a model with this config.json cannot be laid out; known before it is trained. Empty if it can."""
    from edgedistill.export.gguf_encoder import refused

    return refused(config)


def lacks(student: Any, task: Any) -> Iterator[tuple[str, str]]:
    """Yield the keys of a recipe that ask for what the format does not have, and each reason.

    Args:
        student: its options.
        task: its options.
    """
    if student.kind == "static":
        yield "student.kind", "a static student has no attention, and llama.cpp no model without"
    if student.embedding_rank is not None:
        yield "student.embedding_rank", "llama.cpp has no token table in two factors"
    for key in ("dimensions", "truncations"):
        if getattr(task, key):
            yield f"task.{key}", "it is a linear map behind the pooling, and llama.cpp has none for this architecture"
    if task.pooling not in (None, "mean", "cls"):
        yield "task.pooling", "llama.cpp pools by mean or cls"


def file_for(scheme: str) -> PurePosixPath:
    """Return where a scheme's model file lies inside the artifact."""
    return PurePosixPath(f"model-{ENCODINGS[scheme]}.gguf")


def exporters(options: Options) -> tuple[str, ...]:
    """Return the exporters to try, in order."""
    return ("gguf",)


def write(model: Any, file: Path, exporter: str, options: Options, metadata: Mapping[str, str]) -> tuple[None, None]:
    """Write `model` to `file`; every number stays what it is.

    Args:
        model: a sentence embedder.
        file: beside the tokenizer's files, which go into it.
        metadata: goes into the file, too; the licence under the key that other programs read.

    Returns:
        None and None: opset and IR version are ONNX's.

    Raises:
        ModelError: llama.cpp could not compute it, or read texts for it.
    """
    from edgedistill.export.gguf_encoder import encoder_tensors, write_encoder

    tensors = encoder_tensors(model)
    half = any(one.type == "F16" for one in tensors.values())
    write_encoder(
        file, file.parent, model.model.config, tensors, file_type=ENCODINGS["float16" if half else "float32"],
        facts=metadata, licence=metadata.get("edgedistill.licence"),
    )  # fmt: skip
    return None, None


def oldest_runtime(file: Path) -> None:
    """Return None: no older release was tried."""


def settings(files: Sequence[PurePosixPath]) -> dict[str, Any]:
    """Return nothing: no one looks into config.json for these files."""
    return {}


def stored_arrays(file: Path) -> set[bytes]:
    """Return the bytes of every tensor in the file: matrices either way round, and half precision that was widened."""
    import numpy as np

    from edgedistill.export.gguf_encoder import SUMMED, read_encoder

    found = set()
    for name, one in read_encoder(file).items():
        widened = one.data.astype(np.float16) if name in SUMMED and _is_half(one.data) else one.data
        for array in (one.data, widened):
            found |= {array.tobytes(), array.T.tobytes()}
    return found


def _is_half(array: Any) -> bool:
    """Whether every number is one of half precision."""
    import numpy as np

    with np.errstate(over="ignore"):
        return bool((array.astype(np.float16).astype(np.float32) == array).all())


def reader(root: Path) -> Callable[[str], bool]:
    """Return what tells whether the runtime reads a text as the tokenizer in this folder, for sure."""
    from functools import partial

    from edgedistill.export.gguf_wordpiece import read_alike, read_lowercase

    return partial(read_alike, lowercase=read_lowercase(root))
