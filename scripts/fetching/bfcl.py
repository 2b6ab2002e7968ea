"""Requests to an assistant, the functions that it can call, and which one answers: a search among functions.

The requests and functions of an evaluation of language models. A student that learned from them must not be measured
by that evaluation any more.

Source: Berkeley Function Calling Leaderboard V4, https://github.com/ShishirPatil/gorilla, Apache-2.0 by its metadata.
"""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fetching import pinned

ARCHIVE = "bfcl_eval-2026.3.23-py3-none-any.whl"
MADE = {
    "bfcl/functions.jsonl": "0e1b8e0f869bba2c695fb776d6ff13aff76368926a886e53b328bc44cb02912a",
    "bfcl/queries.jsonl": "4bdddfaae88b1660dce26151b78571c7a29326398fb89cdebb2bc6e7244ed20f",
    "bfcl/prompts.jsonl": "be79c43c86de2e0f9a94cbfe1806da50adaa21fdb6b84cefb7c0536a8829e41c",
    "bfcl/parameters.txt": "e4a0c190c9f5c12d1e871d12b8d2961f8b39ca5b0c2e8ea9c98284ef086d39ab",
}
SHA256 = {ARCHIVE: "3bb6dfa5f0c68ad403c9ec50b00db2bb3b4cc9b38ab1ff33f48fe30d853d3a0a", **MADE}
FOLDER = "bfcl_eval/data/"
NO_REQUESTS = "format_sensitivity"  # names requests of other files, as one JSON object


def fetch() -> None:
    """Fetch requests and functions; the wheel is read, not installed."""
    pinned.make(MADE, lambda: contents(pinned.from_pypi(ARCHIVE, SHA256[ARCHIVE], "bfcl-eval==2026.3.23")))


def contents(wheel: Path) -> dict[str, bytes]:
    """Return each file that is made.

    A function's id is its name; where several have one name, the first is kept. A query is a request that one call of
    one function answers. Requests that have no such answer, or several, are prompts: texts without a label; so is what
    is asked later in a conversation. Parameters are what functions say of their arguments.
    """
    described: dict[str, str] = {}
    answers: dict[str, set[str]] = {}  # request, in the order of the files -> functions that answer it alone
    later: dict[str, None] = {}
    parameters: dict[str, None] = {}
    with zipfile.ZipFile(wheel) as archive:
        for row, calls in requests(archive):
            for function in row.get("function", []):
                described.setdefault(function["name"], function["description"])
                parameters.update(dict.fromkeys(descriptions(function["parameters"])))
            prompt = asked_in(row["question"][0])[-1]
            later.update(dict.fromkeys(asked for turn in row["question"][1:] for asked in asked_in(turn)))
            answers.setdefault(prompt, set()).update(calls[0] if row.get("function") and len(calls) == 1 else {})
    return {
        "bfcl/functions.jsonl": pinned.json_lines(
            {"id": name, "text": f"{name}: {text}"} for name, text in described.items()
        ),
        "bfcl/queries.jsonl": pinned.json_lines(
            {"text": prompt, "id": next(iter(names))} for prompt, names in answers.items() if len(names) == 1
        ),
        "bfcl/prompts.jsonl": pinned.json_lines(
            {"text": prompt}
            for prompt in [
                *(prompt for prompt, names in answers.items() if len(names) != 1),
                *(asked for asked in later if asked not in answers),
            ]
        ),
        "bfcl/parameters.txt": "".join(f"{text}\n" for text in parameters).encode("utf-8"),
    }


def asked_in(turn: list[dict[str, str]]) -> list[str]:
    """Return what the user says in one turn."""
    return [message["content"].strip() for message in turn if message["role"] == "user"]


def descriptions(schema: Any) -> Iterator[str]:
    """Yield every description inside a JSON schema, each on one line."""
    if isinstance(schema, dict):
        said = schema.get("description")
        if isinstance(said, str) and said.strip():
            yield " ".join(said.split())
        schema = list(schema.values())
    if isinstance(schema, list):
        for part in schema:
            yield from descriptions(part)


def requests(archive: zipfile.ZipFile) -> Iterator[tuple[dict[str, Any], list[Any]]]:
    """Yield each request with the calls that answer it, none where there are none to compare with."""
    files = [name for name in sorted(archive.namelist()) if name.startswith(f"{FOLDER}BFCL_v4_")]
    for file in files:
        if NO_REQUESTS not in file:
            solved = file.replace(FOLDER, f"{FOLDER}possible_answer/")
            answers = rows(archive, solved) if solved in archive.namelist() else []
            calls = {row["id"]: row["ground_truth"] for row in answers}
            yield from ((row, calls.get(row["id"], [])) for row in rows(archive, file))


def rows(archive: zipfile.ZipFile, file: str) -> list[dict[str, Any]]:
    """Return the objects of a file of JSON Lines."""
    return [json.loads(line) for line in archive.read(file).decode("utf-8").split("\n") if line.strip()]
