"""Which release of onnxruntime reads a file: what its operator set and its operators ask for.

An app on a phone brings the runtime that it was built with, so a file should ask for no newer one than it needs. The
IR version is therefore the lowest that holds the operator set, whatever an exporter writes.

Source: https://onnxruntime.ai/docs/reference/compatibility.html for operator sets and IR versions, and
https://github.com/onnx/onnx/blob/main/docs/Versioning.md. The releases were tried with files of every kind, from 1.15
on; two differ from what the page says: 1.15 does not read operator set 19, and 4-bit tables need 1.23.
"""

from typing import Any

OPSETS = {17: "1.15", 18: "1.15", 19: "1.16", 20: "1.17", 21: "1.18"}  # older releases than 1.15 were not tried
OPERATORS = {"MatMulNBits": "1.17", "GatherBlockQuantized": "1.23"}


def lower_ir_version(model: Any) -> None:
    """Give an onnx ModelProto the lowest IR version that its operator sets allow, in place."""
    from onnx import helper

    model.ir_version = helper.find_min_ir_version_for(model.opset_import, ignore_unknown=True)


def oldest_release(model: Any) -> str:
    """Return the oldest onnxruntime known to run an onnx ModelProto that this format writes, as `1.15`."""
    opset = next(entry.version for entry in model.opset_import if entry.domain == "")
    needed = [OPERATORS[node.op_type] for node in model.graph.node if node.op_type in OPERATORS]
    return max([OPSETS[opset], *needed], key=_number)


def _number(release: str) -> tuple[int, ...]:
    return tuple(map(int, release.split(".")))
