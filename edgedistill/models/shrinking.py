"""Fewer columns, heads and neurons: how the weights of a transformer's parts become those of smaller parts.

All that flows from layer to layer is one vector for each token, the stream. A narrower student sees it in a basis of
fewer directions: what reads the stream becomes W P, what writes to it P^T W. Exact, to float rounding:

* everything, where the stream lies in the span of the basis and the gains of a LayerNorm are all alike: an elementwise
  gain does not commute with a rotation. Of other gains the diagonal is kept, which is the best that a gain can do;
* attention, where the heads left out write nothing, and the kept ones have no more rank than their new size;
* the feed-forward part, where the neurons left out write nothing.

Everywhere else this is a start for training, and not a compressed model.

Source: Ashkboos et al. 2024, "SliceGPT", arXiv:2401.15024, section 3 (the stream in a PCA basis; there the gains go
into the next matrix, which a LayerNorm after the sum, as BERT has it, does not allow); Muralidharan et al. 2024,
"Compact Language Models via Pruning and Knowledge Distillation" (Minitron), arXiv:2407.14679, section 2 (heads and
neurons by importance). Importance is read from weights here, not from activations: there is no corpus at hand.
"""

from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

SMALLEST = 1e-12  # singular value whose factors are still numbers, where a head is all zeros


@dataclass(frozen=True)
class Affine:
    """Weight and bias of a linear layer, (out, in) and (out,), or of a LayerNorm, both (hidden,)."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True)
class Basis:
    """The directions of the wide stream in which the narrow one lies."""

    matrix: Tensor  # (hidden, narrow), orthonormal columns
    kept: float  # share of the stream's energy that lies in them, 0..1

    def table(self, weight: Tensor) -> Tensor:
        """Return vectors of the stream, (rows, hidden), as (rows, narrow)."""
        return weight @ self.matrix

    def reads(self, layer: Affine) -> Affine:
        """Return a linear layer that is given the narrow stream."""
        return Affine(layer.weight @ self.matrix, layer.bias)

    def writes(self, layer: Affine) -> Affine:
        """Return a linear layer that adds to the narrow stream."""
        return Affine(self.matrix.T @ layer.weight, self.matrix.T @ layer.bias)

    def norm(self, layer: Affine) -> Affine:
        """Return a LayerNorm of the narrow stream.

        It divides by the root of the mean square of narrow numbers, which is sqrt(kept * hidden / narrow) times that of
        the wide ones: the gain makes up for it. Of the gain in the new basis, P^T diag(gain) P, the diagonal is kept.
        """
        hidden, narrow = self.matrix.shape
        gain = self.matrix.square().T @ layer.weight
        return Affine(sqrt(self.kept * hidden / narrow) * gain, self.matrix.T @ layer.bias)


def whole_basis(hidden: int) -> Basis:
    """Return the basis in which every number of the stream stays what it is, to the bit."""
    return Basis(torch.eye(hidden), 1.0)


def principal_basis(moment: Tensor, narrow: int) -> Basis:
    """Return the basis of `narrow` directions that keeps most of the stream's energy.

    The vector of ones goes to the vector of ones, so that a LayerNorm takes away the same mean before and after. The
    other directions are the principal ones of what is left. They are not centred: a matrix reads the mean as well.

    Args:
        moment: (hidden, hidden) float64, the mean of h h^T over the stream.
        narrow: 2..hidden
    """
    hidden = len(moment)
    ones = torch.ones(hidden, 1, dtype=torch.float64) / sqrt(hidden)
    centring = torch.eye(hidden, dtype=torch.float64) - ones @ ones.T
    energy, directions = torch.linalg.eigh(centring @ moment @ centring)  # ascending
    principal = torch.linalg.qr(torch.cat([ones, directions[:, 1 - narrow :].flip(1)], dim=1))[0][:, 1:]
    matrix = torch.cat([ones, principal], dim=1) @ _ones_first(narrow).T
    return Basis(matrix.float(), float(energy[1 - narrow :].sum() / energy.sum()))


def attention(
    query: Affine, key: Affine, value: Affine, output: Affine, heads: int, kept: int, size: int
) -> tuple[Affine, Affine, Affine, Affine]:
    """Return query, key, value and output of `kept` heads of `size` numbers each, in the order in which they were.

    The heads that stay are those with the largest product of value and output. A head is two products: query^T key
    tells who looks at whom, output value what comes of it. Each becomes the nearest one of rank `size` (Eckart and
    Young), by SVD. What does not depend on the token goes into the output's bias, for left out heads too: the values'
    bias, of which every text gets all, since attention sums to 1. The keys' bias goes: softmax does not see it.

    Args:
        query, key, value: (heads * head_dim, hidden)
        output: (hidden, heads * head_dim)
        heads: as they are.
        kept: 1..heads
        size: of a kept head; more than head_dim is room to learn, and changes nothing yet.
    """
    head_dim = len(query.weight) // heads
    if (kept, size) == (heads, head_dim):
        return query, key, value, output
    asks, answers, values, written = (
        weight.reshape(heads, head_dim, -1)
        for weight in (torch.cat([query.weight, query.bias[:, None]], dim=1), key.weight, value.weight, output.weight.T)
    )  # (heads, head_dim, hidden) each, and one column more in asks
    importance = (written.mT @ values).flatten(1).norm(dim=1)
    stay = importance.topk(kept).indices.sort().values
    new_asks, new_answers = _factors(
        asks[stay] * sqrt(size / head_dim), answers[stay], size
    )  # divided by sqrt(size) later
    new_values, new_written = _factors(values[stay], written[stay], size)
    nothing = torch.zeros(kept * size)
    return (
        Affine(new_asks[..., :-1].flatten(0, 1), new_asks[..., -1].flatten()),
        Affine(new_answers.flatten(0, 1), nothing),
        Affine(new_values.flatten(0, 1), nothing),
        Affine(new_written.flatten(0, 1).T, output.bias + output.weight @ value.bias),
    )


def neurons(inner: Affine, outer: Affine, kept: int) -> tuple[Affine, Affine]:
    """Return two layers with `kept` neurons between them: those with the largest product of norms, in and out.

    Args:
        inner: (neurons, in)
        outer: (out, neurons)
        kept: 1..neurons
    """
    importance = inner.weight.norm(dim=1) * outer.weight.norm(dim=0)
    stay = importance.topk(kept).indices.sort().values
    return Affine(inner.weight[stay], inner.bias[stay]), Affine(outer.weight[:, stay], outer.bias)


def _ones_first(size: int) -> Tensor:
    """Return an orthogonal matrix, (size, size), whose first column is all alike and positive."""
    start = torch.eye(size, dtype=torch.float64)
    start[:, 0] = 1
    matrix = torch.linalg.qr(start)[0]
    return torch.cat([matrix[:, :1].abs(), matrix[:, 1:]], dim=1)


def _factors(left: Tensor, right: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return the factors, (heads, rank, columns), whose product is nearest to left^T right, head by head.

    Both get the root of each singular value. Where that is small or, beyond the rank that there is, zero, the left
    factor keeps a length: were both zero, none would ever have a gradient.

    Args:
        left, right: (heads, rank before, columns); columns may differ.
    """
    more = max(0, rank - left.shape[1])
    (left_basis, left_core), (right_basis, right_core) = (
        torch.linalg.qr(torch.nn.functional.pad(factor, (0, 0, 0, more)).mT) for factor in (left, right)
    )
    u, values, vt = torch.linalg.svd(left_core @ right_core.mT)
    u, values, vt = u[..., :rank], values[:, None, :rank], vt[:, :rank]
    length = values.maximum(values.mean(dim=2, keepdim=True)).clamp(min=SMALLEST).sqrt()
    return (left_basis @ u * length).mT, (right_basis @ vt.mT * (values / length)).mT
