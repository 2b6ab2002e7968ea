"""What calibration sees: the inputs of tokens and not of padding, whatever the batches; and what methods make of it."""

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import HIDDEN, config_of, model_of
from torch import Tensor, nn

from edgedistill import registry
from edgedistill.errors import QuantizationError
from edgedistill.models.classifier import StaticClassifier, TransformerClassifier
from edgedistill.models.quantized import batch_matters
from edgedistill.quantize import calibrate
from edgedistill.quantize.calibrate import inputs_of_tokens, observe
from edgedistill.quantize.called import first_readers
from edgedistill.quantize.decisions import Int4, Int8
from edgedistill.quantize.exchange import exchange
from edgedistill.quantize.observers import Channels, Hessian, Histogram
from edgedistill.training.rows import TokenRows

METHODS = "edgedistill.quantize.methods"
ATTENTION = "model.bert.encoder.layer.0.attention.self."
NOTHING = TokenRows(np.zeros(0, dtype=np.int32), np.zeros(1, dtype=np.int64), 0)


def bert() -> TransformerClassifier:
    torch.manual_seed(0)
    return TransformerClassifier(model_of(config_of("bert", layers=2))).eval()


def rows(count: int = 40) -> TokenRows:
    random = np.random.default_rng(0)
    lengths = random.integers(2, 20, size=count)
    return TokenRows(random.integers(4, 50, size=lengths.sum()).astype(np.int32), np.cumsum([0, *lengths]), 0)


class Kept:
    """Keeps all that it sees; what no observer of the package does."""

    def __init__(self) -> None:
        self.values: list[np.ndarray] = []

    def see(self, values: np.ndarray) -> None:
        self.values.append(values)

    def sorted(self) -> np.ndarray:
        together = np.concatenate(self.values)
        return together[np.lexsort(together.T[:4].round(3))]


def seen(model: nn.Module, name: str, given: TokenRows, batch_size: int) -> np.ndarray:
    kept = Kept()
    observe(model, given, {name: kept}, batch_size)
    return kept.sorted()


@pytest.mark.parametrize(
    "name", [f"{ATTENTION}query", "model.bert.encoder.layer.1.output.dense", "model.bert.pooler.dense"]
)
def test_batches_and_order_of_rows_change_nothing(name: str) -> None:
    model, given = bert(), rows()
    alone = seen(model, name, given, batch_size=1)
    expected = len(given) if "pooler" in name else given.lengths.sum()
    assert len(alone) == expected, "every token once, and no padding"
    reverse = given.take(np.arange(len(given))[::-1])
    for other in (seen(model, name, given, 16), seen(model, name, reverse, 7)):
        assert other == pytest.approx(alone, abs=1e-4)


def test_padding_that_counts_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    name, model, given = f"{ATTENTION}query", bert(), rows()
    monkeypatch.setattr(calibrate, "inputs_of_tokens", lambda values, _mask: values.reshape(-1, values.shape[-1]))
    assert len(seen(model, name, given, 16)) > given.lengths.sum()


@pytest.mark.parametrize(
    ("shape", "count"), [((2, 3, 5), 4), ((2, 3, 4, 5), 16), ((6, 5), 4), ((2, 5), 2), ((1, 7, 5), 7)]
)
def test_inputs_are_taken_where_the_mask_is_one(shape: tuple[int, ...], count: int) -> None:
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    assert inputs_of_tokens(torch.zeros(shape), mask).shape == (count, 5)


class Counting:
    """Passes inputs on, and counts those that are still in memory."""

    def __init__(self, observer: Any) -> None:
        self.observer = observer
        self.given: list[weakref.ref[np.ndarray]] = []

    def see(self, values: np.ndarray) -> None:
        self.given.append(weakref.ref(values))
        self.observer.see(values)

    def left(self) -> int:
        return sum(given() is not None for given in self.given)


@pytest.mark.parametrize("observer", [Channels(HIDDEN), Hessian(HIDDEN), Histogram(), Kept()])
def test_no_input_outlives_its_batch(observer: Any) -> None:
    counting = Counting(observer)
    observe(bert(), rows(100), {f"{ATTENTION}query": counting}, batch_size=5)
    assert len(counting.given) == 20
    assert counting.left() == (20 if isinstance(observer, Kept) else 0), "Kept is a broken twin"


def test_query_key_and_value_are_known_to_read_one_tensor() -> None:
    first = first_readers(bert())
    assert {first[f"{ATTENTION}{name}"] for name in ("query", "key", "value")} == {f"{ATTENTION}query"}
    others = [name for name in first if not name.endswith(("key", "value"))]
    assert all(first[name] == name for name in others)


class Twice(nn.Module):
    """Two layers read what one reads, but one of them reads something else as well."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 4)
        self.one, self.same, self.more = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        vectors = self.embedding(ids)
        total = self.one(vectors) + self.same(vectors) + self.more(vectors) + self.more(vectors * 2)
        return (total * mask[..., None]).sum(dim=1)


def test_a_layer_that_reads_something_else_as_well_stands_alone() -> None:
    assert first_readers(Twice().eval()) == {"one": "one", "same": "one", "more": "more"}


def decided(method: str, model: nn.Module, given: TokenRows, **options: Any) -> dict[str, Any]:
    module = registry.load(METHODS, method)
    return dict(module.quantize(model, module.Options(method=method, min_weights=1, **options), given))


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("static_int8", {}),
        ("dynamic_int8", {"smoothing": 0.5}),
        ("dynamic_int8", {"rounding": "gptq"}),
        ("int4_groupwise", {"rounding": "gptq", "group_size": 16}),
    ],
)
def test_no_calibration_rows_are_an_error_where_they_are_needed(method: str, options: dict[str, Any]) -> None:
    with pytest.raises(QuantizationError, match=r"the calibration split has no rows.*data\.calibration"):
        decided(method, bert(), NOTHING, **options)


@pytest.mark.parametrize(("method", "options"), [("dynamic_int8", {}), ("int4_groupwise", {"group_size": 16})])
def test_rows_that_nobody_needs_are_not_read(method: str, options: dict[str, Any]) -> None:
    assert decided(method, bert(), NOTHING, **options)


def test_an_input_that_is_not_finite_names_its_layer() -> None:
    model = bert()
    with torch.no_grad():
        model.model.bert.encoder.layer[0].output.LayerNorm.weight[0] = float("inf")
    with pytest.raises(
        QuantizationError, match=r"encoder\.layer\.1\.attention\.self\.query reads a NaN or an infinity"
    ):
        decided("static_int8", model, rows())
    assert not any(part._forward_pre_hooks for part in model.modules()), "nothing is left hanging on the model"


def exchanged(model: Callable[[], nn.Module], made: dict[str, Any]) -> nn.Module:
    quantized = model()
    exchange(quantized, made)
    return quantized.eval()


def logits(model: nn.Module, given: TokenRows, which: list[int]) -> Tensor:
    with torch.no_grad():
        return model(*(torch.from_numpy(array) for array in given.padded(which)))


@pytest.mark.parametrize("ranges", ["min_max", "percentile", "entropy"])
@pytest.mark.parametrize("smoothing", [None, 0.5])
def test_static_answers_are_close_and_do_not_depend_on_the_batch(ranges: str, smoothing: float | None) -> None:
    given = rows()
    made = decided("static_int8", bert(), given, ranges=ranges, smoothing=smoothing)
    assert all(each.input_range is not None for name, each in made.items() if "embeddings" not in name)
    quantized = exchanged(bert, made)
    assert not batch_matters(quantized)
    together, expected = logits(quantized, given, list(range(8))), logits(bert(), given, list(range(8)))
    assert (together - expected).abs().max() < 0.25 * expected.abs().max()
    for row in range(8):
        assert logits(quantized, given, [row])[0] == pytest.approx(together[row], abs=1e-4)


def outliers() -> TransformerClassifier:
    """Return a model whose states have two large channels, as those of real ones do."""
    model = bert()
    with torch.no_grad():
        for layer in model.model.bert.encoder.layer:
            layer.attention.output.LayerNorm.weight[[3, 7]] *= 30
            layer.intermediate.dense.weight[:, [3, 7]] /= 30
    return model


def difference(made: dict[str, Any], given: TokenRows) -> float:
    every = list(range(len(given)))
    return float((logits(exchanged(outliers, made), given, every) - logits(outliers(), given, every)).norm())


def test_smoothing_helps_where_channels_have_outliers() -> None:
    given = rows()
    plain = decided("static_int8", outliers(), given, embeddings="float32")
    smooth = decided("static_int8", outliers(), given, embeddings="float32", smoothing=0.5)
    smoothed = {name for name, each in smooth.items() if each.smoothing is not None}
    assert {name for name in smoothed if "intermediate" in name}, "they read the outliers"
    assert difference(smooth, given) < difference(plain, given)
    shared = [smooth[f"{ATTENTION}{name}"].smoothing for name in ("query", "key", "value")]
    assert all(each is shared[0] for each in shared)


def test_ranges_of_smoothed_inputs_are_those_of_what_the_layer_rounds() -> None:
    given, name = rows(), "model.bert.encoder.layer.0.intermediate.dense"
    made = decided("static_int8", outliers(), given, smoothing=0.5)[name]
    kept = Kept()
    observe(outliers(), given, {name: kept})
    smoothed = kept.sorted() * (np.float32(1) / made.smoothing)
    ends = [(code - made.input_range.zero_point) * made.input_range.scale for code in (0, 255)]
    assert ends == pytest.approx([smoothed.min(), smoothed.max()], abs=made.input_range.scale)


@pytest.mark.parametrize("method", ["static_int8", "dynamic_int8", "int4_groupwise"])
def test_rounding_together_keeps_scales_and_brings_outputs_closer(method: str) -> None:
    given, name = rows(200), "model.bert.encoder.layer.1.output.dense"
    options: dict[str, Any] = {"group_size": 16} if method == "int4_groupwise" else {"reduced_range": "always"}
    nearest = decided(method, bert(), given, **options)
    chosen = decided(method, bert(), given, rounding="gptq", **options)
    kept, weight = Kept(), bert().get_submodule(name).weight.detach().numpy()
    observe(bert(), given, {name: kept})
    errors = [np.linalg.norm(kept.sorted() @ (each[name].weight() - weight).T) for each in (nearest, chosen)]
    assert errors[1] < 0.95 * errors[0]
    assert np.array_equal(numbers(nearest[name]).scales, numbers(chosen[name]).scales)
    table = "model.bert.embeddings.word_embeddings"
    assert np.array_equal(numbers(nearest[table]).codes, numbers(chosen[table]).codes), "tables stay nearest"


def numbers(decision: Int8 | Int4) -> Any:
    return decision.rows if isinstance(decision, Int8) else decision.groups


def test_a_head_without_tokens_is_calibrated_too() -> None:
    torch.manual_seed(0)
    model = StaticClassifier(50, 16, 8, ("negative", "positive")).eval()
    made = decided("static_int8", model, rows())
    ids, mask = (torch.from_numpy(array) for array in rows().padded(range(40)))
    pooled = model.pool(ids, mask).detach()
    found = made["hidden"].input_range
    assert found.scale * 255 == pytest.approx(float(pooled.max().clamp(min=0) - pooled.min().clamp(max=0)), rel=1e-4)
