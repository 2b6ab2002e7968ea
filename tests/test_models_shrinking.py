"""Cutting a part is exact where it is said to be, and as near as can be elsewhere."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from edgedistill.models.shrinking import Affine, Basis, attention, neurons, principal_basis, whole_basis

HIDDEN, NARROW, HEADS, HEAD_DIM, TOKENS = 32, 12, 4, 8, 7
CLOSE = 1e-4


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def affine(rows: int, columns: int) -> Affine:
    return Affine(torch.randn(rows, columns), torch.randn(rows))


def apply(layer: Affine, states: Tensor) -> Tensor:
    return functional.linear(states, layer.weight, layer.bias)


def normalise(layer: Affine, states: Tensor) -> Tensor:
    return functional.layer_norm(states, (states.shape[-1],), layer.weight, layer.bias)


def stream(dimensions: int, count: int = 400) -> Tensor:
    """Return vectors that lie in so many dimensions, one of which is that of the mean, (count, hidden)."""
    directions = torch.cat([torch.ones(1, HIDDEN), torch.randn(dimensions - 1, HIDDEN)])
    return torch.randn(count, dimensions) * torch.linspace(2, 0.5, dimensions) @ directions


def basis_of(states: Tensor, narrow: int = NARROW) -> Basis:
    wide = states.double()
    return principal_basis(wide.T @ wide / len(wide), narrow)


def error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def test_the_whole_basis_changes_no_bit() -> None:
    layer, norm = affine(HIDDEN, HIDDEN), Affine(torch.randn(HIDDEN), torch.randn(HIDDEN))
    whole = whole_basis(HIDDEN)
    for cut, given in ((whole.reads(layer), layer), (whole.writes(layer), layer), (whole.norm(norm), norm)):
        assert torch.equal(cut.weight, given.weight)
        assert torch.equal(cut.bias, given.bias)
    assert torch.equal(whole.table(layer.weight), layer.weight)


@pytest.mark.parametrize("narrow", [2, 3, NARROW, HIDDEN - 1, HIDDEN])
def test_a_basis_is_orthonormal_and_takes_ones_to_ones(narrow: int) -> None:
    matrix = basis_of(stream(HIDDEN), narrow).matrix
    assert torch.allclose(matrix.T @ matrix, torch.eye(narrow), atol=1e-5)
    assert torch.allclose(matrix.T @ torch.ones(HIDDEN), torch.full((narrow,), (HIDDEN / narrow) ** 0.5), atol=1e-4)


def kept_by(matrix: Tensor, states: Tensor) -> float:
    """Return the share of the energy, beside the mean's, that a basis keeps."""
    rest = states - states.mean(dim=1, keepdim=True)
    return float((rest @ matrix).square().sum() / rest.square().sum())


def test_no_other_basis_keeps_more() -> None:
    states = stream(HIDDEN)
    basis = basis_of(states)
    rest = np.asarray(states - states.mean(dim=1, keepdim=True))
    energies = np.linalg.svd(rest, compute_uv=False) ** 2
    best = float(energies[: NARROW - 1].sum() / energies.sum())
    assert basis.kept == pytest.approx(kept_by(basis.matrix, states), rel=1e-4)
    assert basis.kept == pytest.approx(best, rel=1e-4)
    others = [torch.linalg.qr(torch.randn(HIDDEN, NARROW))[0] for _ in range(20)]
    assert max(kept_by(matrix, states) for matrix in others) < best


def test_where_the_stream_is_that_narrow_nothing_is_lost() -> None:
    states = stream(NARROW)
    basis = basis_of(states)
    narrow = basis.table(states)
    assert basis.kept == pytest.approx(1.0)
    layer = affine(5, HIDDEN)
    assert error(apply(basis.reads(layer), narrow), apply(layer, states)) < CLOSE
    writing = Affine(basis.matrix @ torch.randn(NARROW, 5), basis.matrix @ torch.randn(NARROW))
    inputs = torch.randn(6, 5)
    assert error(apply(basis.writes(writing), inputs) @ basis.matrix.T, apply(writing, inputs)) < CLOSE
    norm = Affine(torch.full((HIDDEN,), 0.7), basis.matrix @ torch.randn(NARROW))
    assert error(normalise(basis.norm(norm), narrow) @ basis.matrix.T, normalise(norm, states)) < CLOSE


def test_where_it_is_not_or_gains_differ_something_is() -> None:
    states, wider = stream(NARROW), stream(NARROW + 4)
    basis, layer = basis_of(states), affine(5, HIDDEN)
    assert error(apply(basis.reads(layer), wider @ basis.matrix), apply(layer, wider)) > 0.05
    uneven = Affine(torch.linspace(0.2, 2, HIDDEN), torch.zeros(HIDDEN))
    narrow = basis.table(states)
    assert error(normalise(basis.norm(uneven), narrow), basis.table(normalise(uneven, states))) > 0.05


def test_a_basis_that_moves_the_mean_does_not_fit_a_layer_norm() -> None:
    states = stream(NARROW)
    turned = Basis(basis_of(states).matrix @ torch.linalg.qr(torch.randn(NARROW, NARROW))[0], 1.0)
    norm = Affine(torch.ones(HIDDEN), torch.zeros(HIDDEN))
    narrow = turned.table(states)
    assert error(normalise(turned.norm(norm), narrow), turned.table(normalise(norm, states))) > 0.05


def test_a_gain_makes_up_for_the_energy_that_is_lost() -> None:
    states, norm = torch.randn(400, HIDDEN), Affine(torch.ones(HIDDEN), torch.zeros(HIDDEN))
    basis = basis_of(states)
    wanted = basis.table(normalise(norm, states)).square().mean()
    narrow = basis.table(states)
    assert normalise(basis.norm(norm), narrow).square().mean() == pytest.approx(float(wanted), rel=0.02)
    blind = Basis(basis.matrix, 1.0)
    assert normalise(blind.norm(norm), narrow).square().mean() > 1.3 * wanted


Heads = tuple[Affine, Affine, Affine, Affine]


def attend(parts: Heads, heads: int, states: Tensor) -> Tensor:
    """Return what attention of so many heads writes, as PyTorch computes it."""
    *reading, writing = parts
    query, key, value = (apply(part, states).unflatten(1, (heads, -1)).transpose(0, 1) for part in reading)
    return apply(writing, functional.scaled_dot_product_attention(query, key, value).transpose(0, 1).flatten(1))


def some_heads() -> Heads:
    query, key, value = (affine(HEADS * HEAD_DIM, HIDDEN) for _ in range(3))
    return Affine(query.weight / 16, query.bias / 16), key, value, affine(HIDDEN, HEADS * HEAD_DIM)


def with_heads(parts: Heads, change: Callable[[Tensor], object]) -> Heads:
    """Return the parts after each weight was changed in place, seen as (heads, head_dim, hidden)."""
    views = [part.weight.clone() for part in parts[:3]] + [parts[3].weight.T.clone()]
    for view in views:
        change(view.view(HEADS, HEAD_DIM, HIDDEN))
    views[3] = views[3].T
    query, key, value, output = (Affine(view, part.bias) for view, part in zip(views, parts, strict=True))
    return query, key, value, output


def test_as_many_heads_of_the_same_size_are_left_alone() -> None:
    parts = some_heads()
    assert attention(*parts, HEADS, HEADS, HEAD_DIM) == parts


@pytest.mark.parametrize("size", [HEAD_DIM, HEAD_DIM + 5])
def test_heads_that_write_nothing_are_not_missed(size: int) -> None:
    query, key, value, output = some_heads()
    weight = output.weight.clone()
    weight[:, HEAD_DIM : 3 * HEAD_DIM] = 0  # the heads in the middle
    parts, states = (query, key, value, Affine(weight, output.bias)), torch.randn(TOKENS, HIDDEN)
    assert error(attend(attention(*parts, HEADS, 2, size), 2, states), attend(parts, HEADS, states)) < CLOSE
    assert error(attend(attention(*parts, HEADS, 1, size), 1, states), attend(parts, HEADS, states)) > 0.05


def test_heads_of_little_rank_fit_into_fewer_numbers() -> None:
    def flatten(weight: Tensor) -> None:
        weight[:, 3:] = torch.randn(HEADS, HEAD_DIM - 3, 3) @ weight[:, :3]

    query, key, value, output = with_heads(some_heads(), flatten)
    parts = (Affine(query.weight, query.weight @ torch.randn(HIDDEN)), key, value, output)
    states = torch.randn(TOKENS, HIDDEN)
    expected = attend(parts, HEADS, states)
    assert error(attend(attention(*parts, HEADS, HEADS, 3), HEADS, states), expected) < 10 * CLOSE
    assert error(attend(attention(*parts, HEADS, HEADS, 2), HEADS, states), expected) > 0.01


def test_a_smaller_head_is_the_nearest_one() -> None:
    parts = some_heads()
    query, key, value, output = attention(*parts, HEADS, HEADS, 3)
    product = (parts[3].weight[:, :HEAD_DIM] @ parts[2].weight[:HEAD_DIM]).numpy()
    u, values, vt = np.linalg.svd(product)
    assert np.allclose((output.weight[:, :3] @ value.weight[:3]).numpy(), u[:, :3] * values[:3] @ vt[:3], atol=1e-3)
    scores = (parts[0].weight[:HEAD_DIM].T @ parts[1].weight[:HEAD_DIM]).numpy() / HEAD_DIM**0.5
    found = (query.weight[:3].T @ key.weight[:3]).numpy() / 3**0.5
    best = np.sqrt((np.linalg.svd(scores, compute_uv=False)[3:] ** 2).sum())
    assert best <= np.linalg.norm(found - scores) < 1.3 * best, "the bias of the query has a say too"


def test_the_heads_that_write_most_stay_in_order() -> None:
    def louder(weight: Tensor) -> None:
        weight *= torch.tensor([1.0, 8.0, 2.0, 4.0])[:, None, None]

    parts = with_heads(some_heads(), louder)
    _, _, value, output = attention(*parts, HEADS, 2, HEAD_DIM)
    for new, old in enumerate((1, 3)):
        now, before = (slice(i * HEAD_DIM, (i + 1) * HEAD_DIM) for i in (new, old))
        found = output.weight[:, now] @ value.weight[now]
        assert error(found, parts[3].weight[:, before] @ parts[2].weight[before]) < CLOSE


@pytest.mark.parametrize("silent", [False, True])
def test_room_in_a_larger_head_can_be_learned(silent: bool) -> None:
    parts = some_heads()
    if silent:
        parts = with_heads(parts, lambda weight: weight.zero_())
    cut = attention(*parts, HEADS, 2, 2 * HEAD_DIM)
    weights = [part.weight.clone().requires_grad_() for part in cut]
    given = [Affine(weight, part.bias) for weight, part in zip(weights, cut, strict=True)]
    query, key, value, output = given
    attend((query, key, value, output), 2, torch.randn(TOKENS, HIDDEN)).square().sum().backward()
    written = weights[3].grad
    assert written is not None
    assert written.isfinite().all()
    assert (written.norm(dim=0) > 0).all(), "every number of a head may come to write something"


def test_neurons_that_write_nothing_are_not_missed() -> None:
    inner, outer = affine(20, HIDDEN), affine(HIDDEN, 20)
    outer.weight[:, ::2] = 0
    states = torch.randn(TOKENS, HIDDEN)
    expected = apply(outer, functional.gelu(apply(inner, states)))
    ten, nine = (neurons(inner, outer, kept) for kept in (10, 9))
    assert error(apply(ten[1], functional.gelu(apply(ten[0], states))), expected) < CLOSE
    assert error(apply(nine[1], functional.gelu(apply(nine[0], states))), expected) > 0.01


def test_as_many_neurons_stay_as_they_are() -> None:
    inner, outer = affine(20, HIDDEN), affine(HIDDEN, 20)
    for cut, given in zip(neurons(inner, outer, 20), (inner, outer), strict=True):
        assert torch.equal(cut.weight, given.weight)
        assert torch.equal(cut.bias, given.bias)


def test_neurons_are_as_important_as_what_they_read_and_write_together() -> None:
    inner, outer = affine(3, HIDDEN), affine(HIDDEN, 3)
    reads, writes = torch.tensor([9.0, 1.0, 4.0]), torch.tensor([1.0, 8.0, 4.0])  # products 9, 8 and 16
    inner.weight.copy_(torch.nn.functional.normalize(inner.weight) * reads[:, None])
    outer.weight.copy_(torch.nn.functional.normalize(outer.weight, dim=0) * writes)
    assert torch.equal(neurons(inner, outer, 1)[0].weight, inner.weight[2:])
    assert torch.equal(neurons(inner, outer, 2)[1].weight, outer.weight[:, [0, 2]])
