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
    "bfcl/prompts.jsonl": "e3d8a2a2140e98699dc58e185174d3e014f5c6e93c375786dbeb216cf4ad6a61",
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
    one function answers. Requests that have no such answer, or several, are prompts: texts without a label.
    """
    described: dict[str, str] = {}
    answers: dict[str, set[str]] = {}  # request, in the order of the files -> functions that answer it alone
    with zipfile.ZipFile(wheel) as archive:
        for row, calls in requests(archive):
            for function in row.get("function", []):
                described.setdefault(function["name"], function["description"])
            prompt = [message["content"] for message in row["question"][0] if message["role"] == "user"][-1].strip()
            answers.setdefault(prompt, set()).update(calls[0] if row.get("function") and len(calls) == 1 else {})
    return {
        "bfcl/functions.jsonl": pinned.json_lines(
            {"id": name, "text": f"{name}: {text}"} for name, text in described.items()
        ),
        "bfcl/queries.jsonl": pinned.json_lines(
            {"text": prompt, "id": next(iter(names))} for prompt, names in answers.items() if len(names) == 1
        ),
        "bfcl/prompts.jsonl": pinned.json_lines(
            {"text": prompt} for prompt, names in answers.items() if len(names) != 1
        ),
    }


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
