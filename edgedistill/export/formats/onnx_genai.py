"""A folder for onnxruntime-genai for each method: graph with KV cache, weights, settings, tokenizer, chat template.

The graph is what onnxruntime-genai's own model builder makes of the checkpoint in float32; the builder quantizes
nothing, the codes of `quantize` take the place of its matrices.

Source: https://onnxruntime.ai/docs/genai/reference/config.html
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from edgedistill.export.decoder_file import FLOAT_STUDENT, Described
from edgedistill.section import FormatOptions

if TYPE_CHECKING:
    from edgedistill.models.block_tensors import BlockTensor

RUNTIME = "onnxruntime_genai"
TEACHER = FLOAT_STUDENT  # in what the teacher is laid out, to compare with
KNOWN = ("llama", "mistral", "qwen2", "qwen3")  # whose tensors `export/genai_names.py` finds in the builder's graph
EXACT_LEVEL = 1  # of MatMulNBits: activations stay float32


class Options(FormatOptions):
    """How products with codes are computed: the same file but for one number, which the runtime obeys."""

    format: Literal["onnx_genai"]
    accuracy_level: int = Field(
        4,
        ge=0,
        le=4,
        examples=[1],
        description="What activations are rounded to while codes are multiplied: 4 to 8-bit integers, by far the "
        "fastest on a CPU; 1 float32, exact; 2 float16 and 3 bfloat16 where the runtime has such kernels; 0 leaves it "
        "to the runtime.",
    )

    STORES: ClassVar[frozenset[str]] = frozenset({"float32", "onnx_int4", "onnx_int8"})
    EXTRA: ClassVar[str] = "genai"
    IMPORTS: ClassVar[tuple[str, ...]] = ("onnxruntime_genai",)
    TASKS: ClassVar[frozenset[str]] = frozenset({"text_generation"})


def refuses(config: Mapping[str, Any]) -> list[str]:
    """Return why a model with this config.json cannot be laid out; known before it is trained. Empty if it can."""
    kind = str(config.get("model_type"))
    return [] if kind in KNOWN else [f"its matrices are known of {', '.join(KNOWN)}, and this is a {kind!r}"]


def start(checkpoint: Path, working: Path) -> Path:
    """Return what `write` begins with: the folder that onnxruntime-genai's builder makes of a checkpoint.

    Raises:
        StageError: the builder does not know the architecture.
    """
    from edgedistill.export.genai_builder import build

    return build(checkpoint, working)


def load(file: Path) -> "dict[str, BlockTensor]":
    """Return the tensors that a method's `save` wrote."""
    from edgedistill.models import block_tensors

    return block_tensors.load(file)


def floats(checkpoint: Path, name: str) -> "dict[str, BlockTensor]":
    """Return a checkpoint's tensors as float32."""
    import numpy as np

    from edgedistill.models.block_tensors import FLOAT, BlockTensor
    from edgedistill.models.checkpoint_names import checkpoint_tensors
    from edgedistill.models.decoder import load_decoder

    found = {}
    for key, tensor in checkpoint_tensors(load_decoder(checkpoint)).items():
        array = np.array(tensor.detach().numpy(), dtype=np.float32)
        found[key] = BlockTensor(FLOAT, array.shape, array)
    return found


def place(root: Path, described: Described) -> Path:
    """Return the folder of a model inside the artifact."""
    return root / described.method


def write(
    place: Path, started: Path, checkpoint: Path, tensors: "Mapping[str, BlockTensor]", described: Described,
    options: Options,
) -> None:  # fmt: skip
    """Write a folder that onnxruntime-genai loads as it is; no number changes on the way.

    Raises:
        StageError: the builder's graph is not one whose matrices are the checkpoint's.
    """
    from edgedistill.export.genai_builder import DATA, MODEL
    from edgedistill.export.genai_graph import write_graph

    place.mkdir(parents=True, exist_ok=True)
    for file in started.iterdir():
        if file.name not in (MODEL, DATA):
            shutil.copyfile(file, place / file.name)
    metadata = {f"edgedistill.{key}": value for key, value in described.facts.items()}
    metadata |= {"edgedistill.name": described.name, "edgedistill.version": described.version}
    metadata |= {"edgedistill.licence": described.licence}
    if described.method != FLOAT_STUDENT:
        metadata |= {"edgedistill.accuracy_level": str(options.accuracy_level)}
        metadata |= {"edgedistill.quantized_by": "edgedistill; onnxruntime-genai's builder quantized nothing"}
    write_graph(started, place, tensors, accuracy_level=options.accuracy_level, metadata=metadata)


def differences(place: Path, tensors: "Mapping[str, BlockTensor]") -> list[str]:
    """Return the names of tensors that a folder does not hold as they were decided."""
    from edgedistill.export import genai_read

    return genai_read.differences(place, tensors)


def model_files(place: Path) -> list[Path]:
    """Return the files that hold graph and numbers."""
    from edgedistill.export.genai_builder import DATA, MODEL

    return [place / MODEL, place / DATA]


def exact_twin(place: Path, working: Path) -> Path:
    """Return a copy of a folder that computes in float32, to be told apart from wrong numbers.

    Args:
        place: of a model.
        working: an empty folder; the copy shares the data with `place`.
    """
    from edgedistill.export.genai_builder import MODEL
    from edgedistill.export.genai_graph import with_accuracy

    for file in place.iterdir():
        if file.name != MODEL:
            (working / file.name).hardlink_to(file)
    with_accuracy(place, working / MODEL, EXACT_LEVEL)
    return working
