"""GGUF: one file with weights, tokenizer, chat template and what they are, for llama.cpp and all that is built on it.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from edgedistill.export.decoder_file import FLOAT_STUDENT, Described
from edgedistill.section import FormatOptions

if TYPE_CHECKING:
    from edgedistill.models.ggml_tensors import GgmlTensor

RUNTIME = "llama_cpp"
TEACHER = "f16"  # in what the teacher is laid out, to compare with
FLOATS = {FLOAT_STUDENT: "F32", TEACHER: "F16"}


class Options(FormatOptions):
    """A GGUF file for each method, and one of the float student."""

    format: Literal["gguf"]

    STORES: ClassVar[frozenset[str]] = frozenset(
        {
            "float32", "gguf_f16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q4_0", "iq4_nl", "q3_k_m", "q2_k",
        }
    )  # fmt: skip
    EXTRA: ClassVar[str] = "gguf"
    IMPORTS: ClassVar[tuple[str, ...]] = ("gguf", "llama_cpp")
    TASKS: ClassVar[frozenset[str]] = frozenset({"text_generation"})


def refuses(config: Mapping[str, Any]) -> list[str]:
    """Return why a model with this config.json cannot be laid out; known before it is trained. Empty if it can."""
    from edgedistill.export.gguf_architecture import refused

    return refused(config)


def start(checkpoint: Path, working: Path) -> Path:
    """Return what `write` begins with: the checkpoint itself."""
    return checkpoint


def load(file: Path) -> "dict[str, GgmlTensor]":
    """Return the tensors that a method's `save` wrote."""
    from edgedistill.models import ggml_tensors

    return ggml_tensors.load(file)


def floats(checkpoint: Path, name: str) -> "dict[str, GgmlTensor]":
    """Return a checkpoint's tensors as floats; vectors are F32 always, as llama.cpp wants them."""
    from edgedistill.models import ggml_tensors
    from edgedistill.models.checkpoint_names import checkpoint_tensors
    from edgedistill.models.decoder import load_decoder

    found = {}
    for key, tensor in checkpoint_tensors(load_decoder(checkpoint)).items():
        array = tensor.detach().numpy()
        stored = FLOATS[name] if array.ndim > 1 else "F32"
        found[key] = ggml_tensors.GgmlTensor(stored, array.shape, array.astype(ggml_tensors.FLOATS[stored]))
    return found


def place(root: Path, described: Described) -> Path:
    """Return where a model's file lies, by GGUF's naming convention.

    Raises:
        ModelError: name or version cannot be said in it.
    """
    from edgedistill.export.gguf_metadata import file_name

    return root / file_name(described.name, f"v{described.version}", described.parameters, _encoding(described))


def write(
    place: Path, started: Path, checkpoint: Path, tensors: "Mapping[str, GgmlTensor]", described: Described,
    options: Options,
) -> None:  # fmt: skip
    """Write one file that llama.cpp loads as it is; no number changes on the way.

    Raises:
        ModelError: llama.cpp could not compute or read it as transformers does.
    """
    from edgedistill.export.gguf_file import write_gguf
    from edgedistill.export.gguf_metadata import About

    write_gguf(
        place, checkpoint, tensors, name=described.name, version=f"v{described.version}", licence=described.licence,
        file_type=_encoding(described), facts=described.facts, importance=described.importance,
        about=About(base_models=(described.facts["teacher_source"],)),
    )  # fmt: skip


def differences(place: Path, tensors: "Mapping[str, GgmlTensor]") -> list[str]:
    """Return the names of tensors that a file does not hold as they were decided."""
    from edgedistill.export import gguf_file

    return gguf_file.differences(place, tensors)


def model_files(place: Path) -> list[Path]:
    """Return the files that hold graph and numbers."""
    return [place]


def exact_twin(place: Path, working: Path) -> None:
    """Return None: ggml's kernels round activations, whatever they are told."""


def _encoding(described: Described) -> str:
    """Return what most of it is stored in, in llama.cpp's words, which are the recipe's but for capitals."""
    return FLOATS.get(described.method) or described.method.removeprefix("gguf_").upper()
