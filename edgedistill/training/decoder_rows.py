"""Rows of a decoder: windows of documents and whole conversations as token ids, and which of them count.

No row holds two documents, so no token sees another text. Rows of like length share a batch, which wastes little.
"""

import hashlib
import json
import math
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from heapq import heappop, heappush
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.errors import DataError
from edgedistill.training.counted_rows import CountedRows
from edgedistill.training.rows import TokenRows, mapped


@dataclass(frozen=True)
class Row:
    """What a model reads in one go."""

    ids: list[int]
    counts: list[bool]  # of each id, whether the model is to say it; never of the first one


@dataclass(frozen=True)
class DecoderRows:
    """Rows of one split; its positions are the tokens that count, through all rows."""

    tokens: TokenRows
    counted: CountedRows
    texts: np.ndarray  # (rows,) int64; the text that each row is cut from
    whole: bool = False  # a row is a conversation, and its answers are judged whole

    def targets(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return what is to be said in a batch of these rows.

        Returns:
            Row in the batch and place among the tokens that `kept` names, both (positions,) int64, which index the
            logits; and the numbers of the positions, (positions,) int64.
        """
        read = [self.counted.row(int(row)) for row in rows]
        places = np.repeat(np.arange(len(read)), [len(row.places) for row in read])
        befores = np.concatenate([row.places for row in read])
        numbers = [np.arange(row.positions.start, row.positions.stop) for row in read]
        return places, np.searchsorted(np.unique(befores), befores), np.concatenate(numbers)

    def kept(self, rows: np.ndarray) -> np.ndarray:
        """Return the tokens whose logits say a counted one in any of these rows, in order: (kept,) int64.

        Where prompts count for nothing these are few, and the rest of the batch need not be multiplied with the head.
        Rows are padded on the right, as `TokenRows.padded` does.
        """
        return np.unique(np.concatenate([self.counted.row(int(row)).places for row in rows]))

    def of_first_texts(self, texts: int) -> "DecoderRows":
        """Return the rows of the first so many texts alone; their positions keep their numbers."""
        rows = int(np.searchsorted(self.texts, texts))
        offsets = self.tokens.offsets[: rows + 1]
        end = int(offsets[-1])
        tokens = TokenRows(self.tokens.ids[:end], offsets, self.tokens.pad_id)
        return DecoderRows(
            tokens, CountedRows(tokens.ids, offsets, self.counted.counts[:end]), self.texts[:rows], self.whole
        )

    @cached_property
    def gold(self) -> np.ndarray:
        """The token at each position, (positions,) int64."""
        return self.counted.tokens.astype(np.int64)


def document_rows(tokenizer: Any, text: str, length: int) -> Iterator[Row]:
    """Yield windows of at most `length` tokens, one after another; what a tokenizer puts before a text stands first."""
    ids = tokenizer(text, verbose=False)["input_ids"]  # longer than the model reads: it is cut right here
    for start in range(0, len(ids), length):
        window = ids[start : start + length]
        if len(window) > 1:
            yield Row(window, [False] + [True] * (len(window) - 1))


def rendered(tokenizer: Any, text: str) -> str:
    """Return a conversation under the tokenizer's chat template.

    Raises:
        DataError: the template refuses its roles, or their order.
    """
    return _under_template(tokenizer, json.loads(text))


def _under_template(tokenizer: Any, messages: Sequence[Mapping[str, str]], *, asking: bool = False) -> str:
    from jinja2 import TemplateError

    try:
        said: str = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=asking)
    except TemplateError as error:
        roles = ", ".join(message["role"] for message in messages)
        cure = "leave `system` out of the data" if messages[0]["role"] == "system" else "change the data"
        raise DataError(f"the chat template does not take {roles}: {str(error).rstrip('.')}; {cure}") from error
    return said


def conversation_row(tokenizer: Any, text: str, length: int) -> Row | None:
    """Return a conversation under the tokenizer's chat template; None where it is longer than `length` tokens.

    What counts is what the assistant says after another, and the token that ends it; what the template writes after
    that is cut off.

    Raises:
        DataError: the template refuses the conversation, or writes another beginning when it knows the answer, so that
            nothing tells the two apart.
    """
    messages = json.loads(text)
    whole = _under_template(tokenizer, messages)
    encoded = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
    ids, spans = encoded["input_ids"], encoded["offset_mapping"]
    counts = np.zeros(len(ids), dtype=bool)
    for turn, message in enumerate(messages):
        if message["role"] != "assistant" or not turn:  # nobody asked for what is said first
            continue
        before = _under_template(tokenizer, messages[:turn], asking=True)
        until = _under_template(tokenizer, messages[: turn + 1])
        if not until.startswith(before) or not whole.startswith(until.rstrip()):
            raise DataError(
                "the chat template renders a conversation otherwise once the answer is known, so that what the "
                "assistant says cannot be told apart; use a tokenizer with a plainer template"
            )
        end = len(until.rstrip())
        counts |= np.array([len(before) <= start < end for start, _ in spans])
    last = int(np.flatnonzero(counts)[-1]) + 1 if counts.any() else 0
    if not 1 < last <= length:
        return None
    return Row(ids[:last], [False, *counts[1:last].tolist()])


def rows_of_texts(
    tokenizer: Any, texts: Iterable[str], length: int, *, conversations: bool
) -> Iterator[tuple[int, Row]]:
    """Yield (number of the text, row) of every text."""
    for number, text in enumerate(texts):
        if not conversations:
            yield from ((number, row) for row in document_rows(tokenizer, text, length))
        elif (row := conversation_row(tokenizer, text, length)) is not None:
            yield number, row


def drawn_rows(
    rows: Iterable[tuple[int, Row]], limit: int | None, size: Callable[[Row], int]
) -> Iterable[tuple[int, Row]]:
    """Return so many rows that their sizes add up to `limit` at most, but at least one; in their order.

    Which ones is decided by a hash of their tokens and not by their place: the first rows of a file are often of one
    time, one author, one kind. They are the first ones in the order of hashes, up to the first that does not fit: a
    smaller one behind it is not taken instead, which would prefer short rows, and depend on the order of the file. No
    more than the chosen rows are ever in memory.

    Args:
        rows: (number of the text, row), in the order of the file.
        limit: None takes all.
        size: of a row.
    """
    if limit is None:
        return rows
    kept: list[tuple[tuple[int, int], int, Row]] = []  # a heap: the row with the largest hash goes first
    total, gone = 0, (-math.inf, 0.0)  # the last that went: what lies behind it is not taken either
    for order, (number, row) in enumerate(rows):
        key = (-_hash_of(row), -order)
        if key < gone:
            continue
        total += size(row)
        heappush(kept, (key, number, row))
        while total > limit and len(kept) > 1:
            gone, _, left_out = heappop(kept)
            total -= size(left_out)
    return ((number, row) for _, number, row in sorted(kept, key=lambda one: -one[0][1]))


def _hash_of(row: Row) -> int:
    ids = np.array(row.ids, dtype="<i4").tobytes()
    return int.from_bytes(hashlib.blake2b(ids, digest_size=8).digest(), "big")


def write_rows(
    rows: Iterable[tuple[int, Row]], files: dict[str, Path], pad_id: int, limit: int | None, *, whole: bool = False
) -> DecoderRows:
    """Write rows to the .npy files token_ids, offsets, counts and texts, and map them.

    Args:
        limit: most tokens, whole rows, see `drawn_rows`; None takes all.
    """
    ids, counts, ends, texts = array("i"), array("b"), array("q", [0]), array("q")
    for number, row in drawn_rows(rows, limit, lambda one: len(one.ids)):
        ids.extend(row.ids)
        counts.extend(row.counts)
        ends.append(len(ids))
        texts.append(number)
    np.save(files["token_ids"], np.frombuffer(ids, dtype=np.int32))
    np.save(files["counts"], np.frombuffer(counts, dtype=np.int8).astype(bool))
    np.save(files["offsets"], np.frombuffer(ends, dtype=np.int64))
    np.save(files["texts"], np.frombuffer(texts, dtype=np.int64))
    return mapped_rows(files, pad_id, whole=whole)


def mapped_rows(files: dict[str, Path], pad_id: int, *, whole: bool = False) -> DecoderRows:
    """Return the rows of the .npy files without reading them into memory."""
    tokens = mapped(files["token_ids"], files["offsets"], pad_id)
    counted = CountedRows(tokens.ids, tokens.offsets, np.load(files["counts"], mmap_mode="r"))
    return DecoderRows(tokens, counted, np.load(files["texts"], mmap_mode="r"), whole)
