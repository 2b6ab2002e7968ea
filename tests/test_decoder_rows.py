"""Rows of a decoder: every token of a document once, and of a conversation what the assistant says and nothing else."""

import json
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_decoders import SPECIAL, TEMPLATE, documents, write_decoder, write_tokenizer

from edgedistill.errors import DataError
from edgedistill.models.decoder import Decoder
from edgedistill.models.load import load_tokenizer
from edgedistill.training import decoder_rows
from edgedistill.training.decoder_rows import (
    Row,
    conversation_row,
    document_rows,
    drawn_rows,
    rows_of_texts,
    write_rows,
)

PARTS = ("token_ids", "offsets", "counts", "texts")
CHAT = [
    {"role": "system", "content": "The king is old."},
    {"role": "user", "content": "Who hears the river?"},
    {"role": "assistant", "content": "The cat."},
    {"role": "user", "content": "And a red ball?"},
    {"role": "assistant", "content": "No one finds a red ball."},
]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder)
    (folder / "config.json").write_text("{}", encoding="utf-8")
    return load_tokenizer(folder)


def counted(tokenizer: Any, messages: list[dict[str, str]]) -> list[str]:
    """Return the runs of tokens that count, as text."""
    row = conversation_row(tokenizer, json.dumps(messages), 1000)
    assert row is not None
    runs: list[list[int]] = []
    for place, (token, counts) in enumerate(zip(row.ids, row.counts, strict=True)):
        if counts and not (place and row.counts[place - 1]):
            runs.append([])
        if counts:
            runs[-1].append(token)
    return [tokenizer.decode(run) for run in runs]


def test_windows_hold_every_token_once(tokenizer: Any) -> None:
    text = " ".join(documents(9))
    rows = list(document_rows(tokenizer, text, 16))
    read = [token for row in rows for token in row.ids]
    assert read == tokenizer(text)["input_ids"][: len(read)]
    assert len(tokenizer(text)["input_ids"]) - len(read) <= 1, "a last token alone has nothing that says it"
    assert all(row.counts == [False] + [True] * (len(row.ids) - 1) for row in rows)
    assert {len(row.ids) for row in rows[:-1]} == {16}


def test_only_what_the_assistant_says_counts_with_the_token_that_ends_it(tokenizer: Any) -> None:
    end = SPECIAL[2]
    assert counted(tokenizer, CHAT) == [f"The cat.{end}", f"No one finds a red ball.{end}"]
    assert counted(tokenizer, CHAT[:3]) == [f"The cat.{end}"]
    assert counted(tokenizer, CHAT[2:]) == [f"No one finds a red ball.{end}"], "nobody asked for the first answer"


def test_a_row_ends_where_the_assistant_does(tokenizer: Any) -> None:
    row = conversation_row(tokenizer, json.dumps(CHAT), 1000)
    assert row is not None
    assert row.ids[-1] == tokenizer.convert_tokens_to_ids(SPECIAL[2])
    assert row.counts[-1]


def test_a_conversation_that_is_too_long_is_left_out_whole(tokenizer: Any) -> None:
    row = conversation_row(tokenizer, json.dumps(CHAT), 1000)
    assert row is not None
    assert conversation_row(tokenizer, json.dumps(CHAT), len(row.ids)) == row
    assert conversation_row(tokenizer, json.dumps(CHAT), len(row.ids) - 1) is None


def test_a_template_that_tells_the_end_at_the_beginning_is_refused(tokenizer: Any) -> None:
    tokenizer.chat_template = "{{ messages | length }} messages" + TEMPLATE
    try:
        with pytest.raises(DataError, match="renders a conversation otherwise once the answer is known"):
            conversation_row(tokenizer, json.dumps(CHAT), 1000)
    finally:
        tokenizer.chat_template = TEMPLATE


def test_a_template_that_refuses_the_system_is_told_with_its_own_words(tokenizer: Any) -> None:
    refusal = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    tokenizer.chat_template = refusal + TEMPLATE
    try:
        with pytest.raises(DataError, match=r"does not take system, user.*: System role not supported; leave `system`"):
            conversation_row(tokenizer, json.dumps(CHAT), 1000)
        assert conversation_row(tokenizer, json.dumps(CHAT[1:]), 1000) is not None
    finally:
        tokenizer.chat_template = TEMPLATE


def written(tokenizer: Any, folder: Path, limit: int | None) -> Any:
    rows = rows_of_texts(tokenizer, documents(30), 16, conversations=False)
    return write_rows(rows, {part: folder / f"{part}.npy" for part in PARTS}, tokenizer.pad_token_id, limit)


def test_targets_of_a_batch_are_the_tokens_that_count(tokenizer: Any, tmp_path: Path) -> None:
    rows = written(tokenizer, tmp_path, None)
    batch = np.array([5, 0, 9])
    ids, mask = rows.tokens.padded(batch)
    places, asked, numbers = rows.targets(batch)
    befores = rows.kept(batch)[asked]
    assert (ids[places, befores + 1] == rows.gold[numbers]).all()
    assert mask[places, befores + 1].all(), "padding is never a target"
    assert len(numbers) == mask.sum() - len(batch), "every token but the first of a row"
    assert len(set(numbers.tolist())) == len(numbers)


def test_only_the_tokens_before_an_answer_are_kept(tokenizer: Any, tmp_path: Path) -> None:
    chats = [json.dumps([*CHAT[:2], {"role": "assistant", "content": said}]) for said in ("no", "yes, it is")]
    files = {part: tmp_path / f"{part}.npy" for part in PARTS}
    rows = write_rows(rows_of_texts(tokenizer, chats, 1000, conversations=True), files, tokenizer.pad_token_id, None)
    batch = np.arange(2)
    ids, mask = (torch.from_numpy(array) for array in rows.tokens.padded(batch))
    places, asked, _ = rows.targets(batch)
    kept = rows.kept(batch)
    assert len(kept) < ids.shape[1] / 2
    model = Decoder(write_decoder(tmp_path / "model"))
    with torch.no_grad():
        few, whole = model(ids, mask, kept=torch.from_numpy(kept)), model(ids, mask)
    assert torch.allclose(few, whole[:, kept], atol=1e-6)
    rows_and_befores = [(row, int(before)) for row in batch for before in rows.counted.row(int(row)).places]
    assert torch.allclose(
        few[places, asked], torch.stack([whole[row, before] for row, before in rows_and_befores]), atol=1e-6
    )


def test_a_limit_takes_whole_rows(tokenizer: Any, tmp_path: Path) -> None:
    rows = written(tokenizer, tmp_path, 100)
    assert 68 < len(rows.tokens.ids) <= 100
    assert (np.diff(rows.texts) >= 0).all()


def test_what_a_limit_leaves_does_not_depend_on_the_order_of_the_file(tokenizer: Any) -> None:
    def left(texts: list[str], limit: int) -> list[list[int]]:
        rows = rows_of_texts(tokenizer, texts, 16, conversations=False)
        return [row.ids for _, row in drawn_rows(rows, limit, lambda row: len(row.ids))]

    texts = documents(60)
    some = left(texts, 300)
    assert sorted(some) == sorted(left(texts[::-1], 300))
    assert some != left(texts[::-1], 300), "but their order is the file's"
    whole = left(texts, 10**6)
    assert some != whole[: len(some)], "not the first ones"
    assert [ids for ids in whole if ids in some] == some
    assert len(left(texts, 1)) == 1
    for limit in range(100, 300, 10):
        assert sorted(left(texts, limit)) == sorted(left(texts[::-1], limit))


def test_a_limit_prefers_no_short_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder_rows, "_hash_of", lambda row: row.ids[0])
    rows = [(number, Row([key] * size, [])) for number, (key, size) in enumerate([(5, 6), (1, 6), (9, 4), (7, 9)])]
    for order in permutations(rows):
        drawn = list(drawn_rows(order, 10, lambda row: len(row.ids)))
        assert [row.ids[0] for _, row in drawn] == [1], "the next one by its hash has no room, so that none behind has"
