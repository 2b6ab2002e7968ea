"""Files ask for no newer runtime than they need."""

import onnx
import pytest
from onnx import TensorProto, helper

from edgedistill.export.formats._onnx_versions import lower_ir_version, oldest_release


def model(opset: int, *operators: str, ir_version: int = 14) -> onnx.ModelProto:
    """Return a graph of these operators, one after the other; it need not be able to run."""
    nodes = [
        helper.make_node(name, [f"x{i}"], [f"x{i + 1}"], domain="com.microsoft" if "N" in name[1:] else "")
        for i, name in enumerate(operators)
    ]
    ends = [helper.make_tensor_value_info(f"x{i}", TensorProto.FLOAT, ["rows"]) for i in (0, len(operators))]
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    graph = helper.make_graph(nodes, "graph", ends[:1], ends[1:])
    return helper.make_model(graph, opset_imports=imports, ir_version=ir_version)


@pytest.mark.parametrize(("opset", "ir_version"), [(17, 8), (18, 8), (19, 9), (20, 9), (21, 10)])
@pytest.mark.parametrize("written", [10, 14])
def test_the_ir_version_is_the_lowest_that_holds_the_operator_set(opset: int, ir_version: int, written: int) -> None:
    made = model(opset, "Relu", ir_version=written)
    lower_ir_version(made)
    assert made.ir_version == ir_version
    onnx.checker.check_model(made, full_check=True)


@pytest.mark.parametrize(
    ("opset", "operators", "release"),
    [
        (17, ("Relu",), "1.15"),
        (18, ("Relu", "Softmax"), "1.15"),
        (19, ("Relu",), "1.16"),
        (21, ("Relu",), "1.18"),
        (18, ("Relu", "MatMulNBits"), "1.17"),
        (21, ("MatMulNBits",), "1.18"),
        (18, ("GatherBlockQuantized", "MatMulNBits", "Relu"), "1.23"),
    ],
)
def test_the_newest_thing_in_a_file_decides_what_reads_it(opset: int, operators: tuple[str, ...], release: str) -> None:
    assert oldest_release(model(opset, *operators)) == release


def test_releases_are_compared_as_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgedistill.export.formats import _onnx_versions

    monkeypatch.setitem(_onnx_versions.OPERATORS, "Relu", "1.9")
    assert oldest_release(model(18, "Relu")) == "1.15"
