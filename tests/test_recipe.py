from typing import Any

import pytest
import yaml
from recipe_texts import GOOD

from edgedistill.recipe import Recipe, with_defaults


def plain(**sections: Any) -> dict[str, Any]:
    return {**yaml.safe_load(GOOD), **sections}


def test_a_table_of_vectors_is_trained_otherwise_than_a_transformer() -> None:
    static = Recipe.model_validate(plain(student={"kind": "static"}, distill={}))
    layers = Recipe.model_validate(plain(student={"kind": "layers", "layers": 2}, distill={}))
    assert (static.distill.learning_rate, static.distill.batch_size) == (1e-3, 256)
    assert (layers.distill.learning_rate, layers.distill.batch_size) == (1e-4, 32)


def test_what_the_recipe_says_is_never_changed() -> None:
    said = {"epochs": 3, "learning_rate": 0.5, "losses": [{"loss": "cross_entropy"}]}
    given = with_defaults(plain(student={"kind": "static"}, distill=said))["distill"]
    assert {name: given[name] for name in said} == said


@pytest.mark.parametrize(
    "train", [{"source": "text", "file": "a.txt"}, {"source": "jsonl", "file": "a.jsonl", "label": None}]
)
def test_texts_without_labels_are_learned_from_the_teacher_alone(train: dict[str, Any]) -> None:
    data = {"train": train, "validation": LABELLED, "test": LABELLED}
    assert with_defaults(plain(data=data, distill={}))["distill"]["losses"] == [{"loss": "forward_kl"}]
    labelled = with_defaults(plain(data={"train": LABELLED}, distill={}))["distill"]
    assert "losses" not in labelled


@pytest.mark.parametrize("rounds", [3, 5, 7, 64])
def test_fewer_rounds_make_more_calls_so_that_a_p90_stands(rounds: int) -> None:
    options = Recipe.model_validate(plain(benchmark={"rounds": rounds})).benchmark
    assert options.rounds * options.calls >= 64
    assert Recipe.model_validate(plain(benchmark={"rounds": rounds, "calls": 6})).benchmark.calls == 6


@pytest.mark.parametrize("nonsense", [{"distill": 3}, {"student": 3}, {"student": {"kind": 3}}, {"data": []}])
def test_nonsense_is_left_for_validation_to_tell(nonsense: dict[str, Any]) -> None:
    before = plain(**nonsense)
    after = with_defaults(before)
    assert all(after[name] == value for name, value in nonsense.items())


LABELLED = {"source": "jsonl", "file": "b.jsonl"}
