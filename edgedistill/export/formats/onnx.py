"""ONNX, as onnxruntime, transformers.js and optimum load it: onnx/model.onnx and beside it onnx/model_quantized.onnx.

The names are those that transformers.js looks for: `_quantized` is its `q8`, which a browser loads unless told
otherwise. optimum takes any name. A scheme that transformers.js has no word for it finds by the file's name.

Source: ONNX IR specification, https://github.com/onnx/onnx/blob/main/docs/IR.md
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Literal

from pydantic import Field

from edgedistill.export import transformers_js
from edgedistill.export.formats import _onnx_versions
from edgedistill.section import FormatOptions

EXPORTERS = ("torchscript", "dynamo")
RUNTIME = "onnxruntime"
APPROXIMATES = False
SUFFIXES: Mapping[str, str] = {
    "float32": "",
    "float16": "_fp16",
    "int8_dynamic": "_quantized",
    "int8_static": "_int8",
    "uint8_dynamic": "_uint8",
    "int4": "_q4",
    "mixed": "_mixed",  # no word of theirs: told by its name
}


class Options(FormatOptions):
    """Which operator set the files speak, and which of torch's exporters writes them."""

    format: Literal["onnx"]
    opset: int = Field(
        18,
        ge=17,
        le=21,
        examples=[17],
        description="18 is the oldest that both exporters write; a newer one needs a newer runtime.",
    )
    exporter: Literal["auto", "torchscript", "dynamo"] = Field(
        "auto", description="auto tries torchscript, whose graphs onnxruntime fuses best, then dynamo; parity decides."
    )

    STORES: ClassVar[frozenset[str]] = frozenset(SUFFIXES)


def file_for(scheme: str) -> PurePosixPath:
    """Return where a scheme's model file lies inside the artifact."""
    return PurePosixPath(f"onnx/model{SUFFIXES[scheme]}.onnx")


def exporters(options: Options) -> tuple[str, ...]:
    """Return the exporters to try, in order."""
    return EXPORTERS if options.exporter == "auto" else (options.exporter,)


def write(model: Any, file: Path, exporter: str, options: Options, metadata: Mapping[str, str]) -> tuple[int, int]:
    """Write `model` to `file` with one exporter; every number stays what it is.

    Args:
        model: maps ids and mask, both (batch, tokens) int64, to logits or vectors, (batch, width), as its OUTPUT
            says; batch and tokens are free in the file.
        metadata: goes into the file's metadata_props.

    Returns:
        Opset and IR version of the file.

    Raises:
        Exception: whatever the exporter raises; the stage turns it into the reason why this one was refused.
    """
    import onnx

    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(".draft.onnx")
    try:
        (_write_torchscript if exporter == "torchscript" else _write_dynamo)(model, draft, options.opset)
        written = onnx.load(draft)
    finally:
        draft.unlink(missing_ok=True)
    _strip_traces(written)
    onnx.helper.set_model_props(written, dict(sorted(metadata.items())))
    written.producer_name, written.producer_version = "edgedistill", ""
    _onnx_versions.lower_ir_version(written)
    onnx.checker.check_model(written, full_check=True)
    onnx.save(written, file)
    return next(entry.version for entry in written.opset_import if entry.domain == ""), written.ir_version


def oldest_runtime(file: Path) -> str:
    """Return the oldest release of onnxruntime that is known to run the file."""
    import onnx

    return _onnx_versions.oldest_release(onnx.load(file))


def settings(files: Sequence[PurePosixPath]) -> dict[str, Any]:
    """Return what config.json says of the files, the float one first, beside the checkpoint's own words."""
    return transformers_js.settings(files)


def stored_arrays(file: Path) -> set[bytes]:
    """Return the bytes of every constant in the file, so that a check can look for a weight among them."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(file).graph
    constants = [attribute.t for node in graph.node if node.op_type == "Constant" for attribute in node.attribute]
    return {numpy_helper.to_array(tensor).tobytes() for tensor in [*graph.initializer, *constants]}


def reader(root: Path) -> Callable[[str], bool]:
    """Return what tells whether the runtime reads a text as the tokenizer in this folder: it always does."""
    return lambda _text: True


def _example() -> tuple[Any, Any]:
    import torch

    ids = torch.tensor([[1, 2, 3, 4, 5], [1, 2, 3, 0, 0]])
    return ids, (ids > 0).long()


def _write_torchscript(model: Any, file: Path, opset: int) -> None:
    import warnings

    import torch

    from edgedistill.export.formats._onnx_operators import register_symbolics

    register_symbolics(opset)
    free = {0: "batch", 1: "tokens"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "deprecated", and tracer warnings that the parity check answers
        torch.onnx.export(
            model, _example(), file, dynamo=False, opset_version=opset, input_names=["input_ids", "attention_mask"],
            output_names=[model.OUTPUT],
            dynamic_axes={"input_ids": free, "attention_mask": free, model.OUTPUT: {0: "batch"}},
            do_constant_folding=_may_fold(model),
        )  # fmt: skip


def _write_dynamo(model: Any, file: Path, opset: int) -> None:
    import logging
    import warnings

    import torch

    from edgedistill.export.formats._onnx_operators import translations

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    free = {0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, _example(), file, dynamo=True, opset_version=opset, input_names=["input_ids", "attention_mask"],
            output_names=[model.OUTPUT], dynamic_shapes=(free, free), custom_translation_table=translations(),
            external_data=False, verbose=False, optimize=_may_fold(model),
        )  # fmt: skip


def _may_fold(model: Any) -> bool:
    """Whether constants may be computed beforehand: half-precision weights would be widened, and the file doubled."""
    from edgedistill.models.weight_only_layers import Float16Linear

    return not any(isinstance(part, Float16Linear) for part in model.modules())


def _strip_traces(model: Any) -> None:
    """Drop stack traces and doc strings: they name this machine's folders and differ from build to build."""
    graph = model.graph
    for part in [*graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info, graph, model]:
        part.doc_string = ""
        if hasattr(part, "metadata_props"):
            del part.metadata_props[:]
