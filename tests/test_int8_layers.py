"""The quantized layers stand in for the float ones, close to them, in any shape, and leave no gradient behind."""

import pytest
import torch
from torch import nn

from edgedistill.models.int8_layers import DynamicInt8Linear, Int8Embedding
from edgedistill.models.quantized import replace_module
from edgedistill.quantize.affine import RowQuantized, quantize_rows
from edgedistill.quantize.decisions import Int8
from edgedistill.quantize.exchange import exchange


def model(*, bias: bool = True) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(20, 16), nn.Sequential(nn.Linear(16, 8, bias=bias), nn.ReLU()), nn.Linear(8, 3))


def exchanged(floats: nn.Sequential, *names: str) -> nn.Sequential:
    made = model(bias=floats[1][0].bias is not None)
    made.load_state_dict(floats.state_dict())
    exchange(made, {name: Int8(rows_of(floats, name)) for name in names})
    return made


def rows_of(floats: nn.Sequential, name: str) -> RowQuantized:
    return quantize_rows(floats.get_submodule(name).weight.detach().numpy(), 127)


@pytest.mark.parametrize("bias", [True, False])
def test_exchanged_layers_answer_almost_as_before(bias: bool) -> None:
    floats = model(bias=bias)
    small = exchanged(floats, "0", "1.0", "2")
    assert isinstance(small[0], Int8Embedding)
    assert isinstance(small[1][0], DynamicInt8Linear)
    ids = torch.arange(20).reshape(4, 5)
    given, expected = small(ids), floats(ids)
    assert given.shape == expected.shape
    assert 0 < (given - expected).abs().max() < 0.03 * expected.abs().max()


def test_what_is_not_named_stays_as_it_was() -> None:
    floats = model()
    small = exchanged(floats, "1.0")
    assert isinstance(small[0], nn.Embedding)
    assert torch.equal(small[0].weight, floats[0].weight)
    assert torch.equal(small[2].weight, floats[2].weight)


def test_a_table_gives_each_row_times_its_own_scale() -> None:
    floats = model()
    rows, table = rows_of(floats, "0"), exchanged(floats, "0")[0]
    assert torch.equal(table(torch.arange(20)), torch.from_numpy(rows.dequantize()))
    assert torch.equal(table(torch.tensor([[3, 3], [0, 7]]))[1, 1], torch.from_numpy(rows.dequantize()[7]))


def test_codes_are_stored_and_the_weight_is_gone() -> None:
    state = exchanged(model(), "0", "1.0", "2").state_dict()
    assert {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in state.items()} == {
        "0.codes": (torch.int8, (20, 16)),
        "0.scales": (torch.float32, (20, 1)),
        "1.0.codes": (torch.int8, (16, 8)),
        "1.0.scales": (torch.float32, (8,)),
        "1.0.bias": (torch.float32, (8,)),
        "2.codes": (torch.int8, (8, 3)),
        "2.scales": (torch.float32, (3,)),
        "2.bias": (torch.float32, (3,)),
    }


def test_the_shapes_that_an_exporter_is_told_are_the_real_ones() -> None:
    small = exchanged(model(), "0", "1.0", "2")
    program = torch.export.export(small, (torch.arange(20).reshape(4, 5),))
    (told,) = [node.meta["val"] for node in program.graph.nodes if node.op == "output" for node in node.args[0]]
    real = small(torch.arange(20).reshape(4, 5))
    assert (told.shape, told.dtype) == (real.shape, real.dtype)
    torch.library.opcheck(
        torch.ops.edgedistill.int8_embedding.default, (torch.arange(4), small[0].codes, small[0].scales)
    )
    linear = small[2]
    torch.library.opcheck(
        torch.ops.edgedistill.dynamic_int8_linear.default,
        (torch.rand(2, 3, 8), linear.codes, linear.scales, linear.bias),
    )


def test_a_module_is_replaced_where_its_dotted_name_says() -> None:
    made = model()
    replace_module(made, "1.0", nn.Identity())
    replace_module(made, "2", nn.Identity())
    assert isinstance(made[1][0], nn.Identity)
    assert isinstance(made[2], nn.Identity)
    assert isinstance(made[1][1], nn.ReLU)
