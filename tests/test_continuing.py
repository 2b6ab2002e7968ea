"""Prompts that are continued: together as alone, within a model's context, and by its logits only."""

from pathlib import Path
from typing import Any

import pytest
from tiny_decoders import write_decoder

from edgedistill.distill.decoder import continuing
from edgedistill.distill.decoder.continuing import OneByOne, Opening, Together
from edgedistill.runtimes import pytorch_decoder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("continued") / "teacher"
    write_decoder(folder)
    return folder


@pytest.fixture
def together(checkpoint: Path) -> Together:
    return Together(pytorch_decoder.load(checkpoint, threads=1, context_tokens=64))


def greedy(ids: list[int], room: int) -> Opening:
    return Opening(ids, room, lambda logits: int(logits.argmax()))


ASKED = [greedy([5, 6, 7, 8, 9, 10], 9), greedy([11], 20), greedy([12, 13, 14], 1), greedy([15, 16], 20)]


def test_together_is_said_what_is_said_alone(
    checkpoint: Path, together: Together, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = together.continued(ASKED)[1].ids
    assert len(said) == 20
    monkeypatch.setattr(pytorch_decoder.TorchDecoder, "ends", frozenset({said[12]}))
    decoder = pytorch_decoder.load(checkpoint, threads=1, context_tokens=64)
    found = Together(decoder).continued(ASKED)
    assert found == OneByOne(decoder).continued(ASKED)
    assert found[1].ended
    assert found[1].ids == said[: said.index(said[12])]
    assert not all(one.ended for one in found)
    assert together.continued([]) == []


def test_the_longest_row_does_not_outgrow_the_model_for_the_sake_of_the_others(
    together: Together, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, sizes, generated = together.continued(ASKED), [], together._generated

    def noting(prompts: Any, longest: int, new: int) -> Any:
        assert longest + new <= 22
        sizes.append(len(prompts))
        return generated(prompts, longest, new)

    monkeypatch.setattr(together, "_generated", noting)
    together._context = 22
    with pytest.raises(AssertionError):  # 27 tokens: what is not split is seen
        noting(ASKED, 6, 21)
    sizes.clear()
    assert together.continued(ASKED[:1] + ASKED[2:3] + ASKED[1:2]) == [whole[0], whole[2], whole[1]]
    assert sizes == [1, 2] or sizes == [1, 1, 1]


def test_a_checkpoints_own_settings_of_generation_change_nothing(together: Together) -> None:
    whole = together.continued(ASKED)
    together._model.generation_config.update(repetition_penalty=50.0, max_length=8, do_sample=True)
    assert together.continued(ASKED) == whole


def test_an_answer_that_fills_its_room_has_ended(
    checkpoint: Path, together: Together, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = together.continued(ASKED)[1].ids
    end = next(place for place in range(5, 20) if said[place] not in said[:place])
    monkeypatch.setattr(pytorch_decoder.TorchDecoder, "ends", frozenset({said[end]}))
    decoder = pytorch_decoder.load(checkpoint, threads=1, context_tokens=64)
    for room, whole in ((end, True), (end - 1, False)):
        asked = [greedy(ASKED[1].ids, room)]
        (found,) = Together(decoder).continued(asked)
        assert (found.ids, found.ended) == (said[:room], whole)
        assert OneByOne(decoder).continued(asked) == [found]


def test_a_row_that_is_full_keeps_nobody_waiting(
    checkpoint: Path, together: Together, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = together.continued(ASKED)[1].ids
    end = next(place for place in range(5, 20) if said[place] not in said[:place])
    monkeypatch.setattr(pytorch_decoder.TorchDecoder, "ends", frozenset({said[end]}))
    found = Together(pytorch_decoder.load(checkpoint, threads=1, context_tokens=64))
    widths, generated = [], found._generated

    def noting(prompts: Any, longest: int, new: int) -> Any:
        rows = generated(prompts, longest, new)
        widths.append(max(map(len, rows)))
        return rows

    monkeypatch.setattr(found, "_generated", noting)
    full, ended = found.continued([greedy([12, 13, 14], 1), greedy(ASKED[1].ids, 20)])
    assert (full.ended, ended.ended) == (False, True)
    assert widths == [end + 1], "the row that ends decides, and not the one that never does"


def test_keys_and_values_of_a_batch_are_bounded(together: Together, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, sizes, generated = together.continued(ASKED), [], together._generated

    def noting(prompts: Any, longest: int, new: int) -> Any:
        sizes.append(len(prompts))
        return generated(prompts, longest, new)

    monkeypatch.setattr(together, "_generated", noting)
    monkeypatch.setattr(continuing, "MOST_CACHE_BYTES", 2 * together._cache_bytes(27))
    assert together.continued(ASKED) == whole
    assert sizes == [2, 2]
    monkeypatch.setattr(continuing, "MOST_CACHE_BYTES", 1)
    assert together.continued(ASKED) == whole, "one is read however large it is"
    assert sizes[2:] == [1, 1, 1, 1]
