"""A narrow task for a small language model: which of a few functions answers a request; the answer is its name alone.

A row is a request with one right function and three to five others that have words in common with it. Functions are
dealt to train, validation and test before any row is made, and a row is made of functions of its own split alone, so
that no function of test, as answer or beside it, is ever learned from.

Source: the requests and functions that `bfcl.py` makes; see there.
"""

import hashlib
import json
import random
import re
from collections.abc import Mapping
from functools import cache
from textwrap import shorten

from fetching import bfcl, pinned

MADE = {
    "assistant/train.jsonl": "a5ddfe5322100a4fe2a1a4fe08f9907a52369e67422a49ade70223d5eb3188e4",
    "assistant/validation.jsonl": "ad5a6599062966e39cfa5ea5e7812fe5387ade2e5ca125687f6213bf19a6d61a",
    "assistant/test.jsonl": "bd68e0aa556951edd47775c093a0d8239421f75e595cbb275338faef3c072126",
}
SHA256 = MADE
TENTHS = {"test": 2, "validation": 1}  # of the functions; train has the others
COPIES = {"train": 3, "validation": 1, "test": 1}  # rows of one request, each with other functions to choose from
FEWEST, MOST = 4, 6  # functions to choose from
NEAREST = 15  # others are drawn from as many that are nearest to the right one
MOST_REQUESTS = 10  # of one function; a few have nearly a hundred
LONGEST_REQUEST, LONGEST_LINE = 400, 160  # characters
TASK = "Which function answers the request? Reply with its name alone."


def fetch() -> None:
    """Make the rows."""
    bfcl.fetch()
    pinned.make(MADE, contents)


def contents() -> dict[str, bytes]:
    """Return each file that is made."""
    functions = {row["id"]: row["text"] for row in read("bfcl/functions.jsonl")}
    asked: dict[str, list[str]] = {}
    for row in read("bfcl/queries.jsonl"):
        if len(row["text"]) <= LONGEST_REQUEST:
            asked.setdefault(row["id"], []).append(row["text"])
    made = {}
    for split, copies in COPIES.items():
        own = {name: text for name, text in functions.items() if split_of(name) == split}
        made[f"assistant/{split}.jsonl"] = pinned.json_lines(
            choice(request, name, own, copy)
            for copy in range(copies)
            for name in own
            for request in asked.get(name, [])[:MOST_REQUESTS]
        )
    return made


def read(name: str) -> list[dict[str, str]]:
    """Return the objects of a file in data/."""
    return [json.loads(line) for line in (pinned.DATA / name).read_text(encoding="utf-8").split("\n") if line]


def split_of(name: str) -> str:
    """Return the split of a function, by hash of its family."""
    number = int(hashlib.sha256(family(name).encode("utf-8")).hexdigest(), 16) % 10
    for split, tenths in TENTHS.items():
        if number < tenths:
            return split
        number -= tenths
    return "train"


@cache
def family(name: str) -> str:
    """Return what a function's name says, however it is spelled: `math.getSum` and `get_sum_2` are one."""
    return " ".join(sorted(words(name.rpartition(".")[2])))


@cache
def words(text: str) -> frozenset[str]:
    """Return the words of a text or of a name, in lower case."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)
    return frozenset(word.lower() for word in re.findall(r"[^\W\d_]+", apart))


def choice(request: str, right: str, functions: Mapping[str, str], copy: int) -> dict[str, str]:
    """Return a row: the right function among others that have words in common with it or with the request."""
    drawn = random.Random(f"{copy} {request}")  # the same for the same request, whatever stands before it
    said = words(f"{request} {functions[right]}")

    def far(name: str) -> tuple[float, str]:
        own = words(functions[name])
        return -len(said & own) / len(said | own), name

    near = sorted((name for name in functions if family(name) != family(right)), key=far)[:NEAREST]
    others = drawn.sample(near, min(len(near), drawn.randint(FEWEST, MOST) - 1))
    listed = drawn.sample([right, *others], len(others) + 1)
    lines = "".join(f"\n- {shorten(functions[name], LONGEST_LINE, placeholder=' ...')}" for name in listed)
    return {"prompt": f"{TASK}\n\nFunctions:{lines}\n\nRequest: {request}", "answer": right}
