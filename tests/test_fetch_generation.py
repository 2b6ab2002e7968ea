"""scripts/fetch for text generation: speeches are split by time, an assistant's functions by what they are."""

import io
import json
import tarfile
from pathlib import Path

import pytest
from fetching import assistant, pinned, sotu

FUNCTIONS = [
    f"{verb}_{noun}" for verb in ("get", "find", "count", "sell") for noun in ("cat", "dog", "cow", "hen", "bee")
]


def objects(content: bytes) -> list[dict[str, str]]:
    return [json.loads(line) for line in content.decode("utf-8").split("\n")[:-1]]


def test_speeches_are_split_by_time(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as archive:
        for name in ("2001_b_r.txt", "2000_a_d.txt", "1790_c_n.txt", "1790_c_n.json"):
            content = f" {name}\u2028é \n".encode()
            member = tarfile.TarInfo(f"package/data/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    made = sotu.contents(tmp_path / "a.tgz")
    assert made.keys() == sotu.MADE.keys()
    assert objects(made["speeches/train.jsonl"]) == [
        {"text": "1790_c_n.txt\u2028é", "year": 1790},
        {"text": "2000_a_d.txt\u2028é", "year": 2000},
    ]
    assert [row["year"] for row in objects(made["speeches/held_out.jsonl"])] == [2001]


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[dict[str, str]]]:
    monkeypatch.setattr(pinned, "DATA", tmp_path)
    (tmp_path / "bfcl").mkdir()
    texts = [{"id": name, "text": f"{name}: Does {name}."} for name in FUNCTIONS]
    queries = [{"text": f"Please {name} {number}", "id": name} for name in FUNCTIONS for number in range(12)]
    (tmp_path / "bfcl/functions.jsonl").write_bytes(pinned.json_lines(texts))
    (tmp_path / "bfcl/queries.jsonl").write_bytes(pinned.json_lines(queries))
    first, second = assistant.contents(), assistant.contents()
    assert first == second
    assert first.keys() == assistant.MADE.keys()
    return {name.split("/")[1].removesuffix(".jsonl"): objects(content) for name, content in first.items()}


def listed(row: dict[str, str]) -> list[str]:
    return [line[2:].partition(":")[0] for line in row["prompt"].split("\n") if line.startswith("- ")]


def test_the_answer_is_one_of_the_functions_that_are_listed(made: dict[str, list[dict[str, str]]]) -> None:
    for rows in made.values():
        for row in rows:
            names = listed(row)
            assert len(set(names)) == len(names) <= 6
            assert row["answer"] in names
    places = {listed(row).index(row["answer"]) for row in made["train"]}
    assert places >= {0, 1, 2, 3}, "its place tells nothing"


def test_no_function_is_in_two_splits(made: dict[str, list[dict[str, str]]]) -> None:
    seen = [{name for row in rows for name in listed(row)} for rows in made.values()]
    assert len(set().union(*seen)) == sum(len(names) for names in seen)
    assert assistant.split_of("math.getSum") == assistant.split_of("get_sum_2")
    assert len(made["train"]) == 3 * 10 * len({row["answer"] for row in made["train"]})
