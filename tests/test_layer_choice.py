"""Layers go one by one, the one that is missed least first; an interrupted choice goes on, and ends the same."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_gguf import write_checkpoint
from tiny_pruning import IDS, MASK, loss_of

from edgedistill.errors import ModelError
from edgedistill.models.decoder import load_decoder
from edgedistill.models.layer_choice import LayerChoice, choose, only
from edgedistill.models.students import layers as by_layers

ARCHITECTURES = ("llama", "mistral", "qwen2", "qwen3", "gemma3")


def teacher(folder: Path, family: str = "llama", layers: int = 6) -> Any:
    write_checkpoint(folder, family, num_hidden_layers=layers)
    decoder = load_decoder(folder)
    with torch.no_grad():  # so that layers differ in what they do
        for number, layer in enumerate(decoder.model.base_model.layers):
            for parameter in layer.parameters():
                parameter *= 1 + number % 3
    return decoder


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_some_layers_compute_what_a_student_of_these_computes(tmp_path: Path, family: str) -> None:
    write_checkpoint(tmp_path, family, num_hidden_layers=4)
    decoder = load_decoder(tmp_path)
    whole = decoder(IDS, MASK)
    student = by_layers.make(by_layers.Options(kind="layers", layers=(0, 3)), tmp_path, (), tmp_path).eval()
    with only(decoder, [0, 3]):
        assert torch.equal(decoder(IDS, MASK), student(IDS, MASK))
        assert decoder.model.config.num_hidden_layers == 2
    assert torch.equal(decoder(IDS, MASK), whole), "left as it was"


def test_each_layer_that_goes_is_the_cheapest_of_those_looked_at(tmp_path: Path) -> None:
    decoder = teacher(tmp_path)
    loss = loss_of(decoder)
    found = choose(decoder, loss, 5, tmp_path / "one.json")
    alone = {}
    for one in range(6):
        with only(decoder, [two for two in range(6) if two != one]):
            alone[one] = loss()
    gone = min(alone, key=alone.__getitem__)
    assert set(range(6)) - set(found.layers) == {gone}
    assert found.losses == pytest.approx((loss(), alone[gone]))
    two = choose(decoder, loss, 4, tmp_path / "two.json")
    second = {}
    for one in found.layers:
        with only(decoder, [other for other in found.layers if other != one]):
            second[one] = loss()
    assert two.losses[-1] == pytest.approx(min(second.values()))


def test_it_is_never_far_from_the_best_of_all_choices(tmp_path: Path) -> None:
    decoder = teacher(tmp_path)
    loss, every = loss_of(decoder), {}
    for kept in itertools.combinations(range(6), 3):
        with only(decoder, kept):
            every[kept] = loss()
    found = choose(decoder, loss, 3, tmp_path / "layers.json")
    assert len(found.layers) == 3
    assert found.losses[-1] == pytest.approx(every[found.layers])
    better = sum(value < every[found.layers] for value in every.values())
    assert better <= len(every) // 4


def test_an_interrupted_choice_goes_on_where_it_was(tmp_path: Path) -> None:
    decoder = teacher(tmp_path)
    whole = choose(decoder, loss_of(decoder), 2, tmp_path / "whole.json")
    asked = 0

    def interrupted() -> float:
        nonlocal asked
        asked += 1
        if asked == 10:
            raise KeyboardInterrupt
        return loss_of(decoder)()

    with pytest.raises(KeyboardInterrupt):
        choose(decoder, interrupted, 2, tmp_path / "again.json")
    assert len(decoder.model.base_model.layers) == decoder.model.config.num_hidden_layers == 6
    saved = LayerChoice.load(tmp_path / "again.json")
    assert len(saved.layers) == 5
    assert choose(decoder, loss_of(decoder), 2, tmp_path / "again.json") == whole


def test_a_layer_whose_absence_breaks_the_model_stays(tmp_path: Path) -> None:
    decoder = teacher(tmp_path, layers=3)
    needed = decoder.model.base_model.layers[1]

    def loss() -> float:
        return loss_of(decoder)() if needed in list(decoder.model.base_model.layers) else float("nan")

    assert 1 in choose(decoder, loss, 1, tmp_path / "layers.json").layers


def test_a_teacher_without_a_loss_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="the teacher's loss on calibration text is nan"):
        choose(teacher(tmp_path, layers=2), lambda: float("nan"), 1, tmp_path / "layers.json")
