"""What each source does beyond the contract."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from edgedistill.corpus.sources import csv, hub, jsonl, parquet, text
from edgedistill.errors import DataError


def read_jsonl(folder: Path, lines: list[object], **given: Any) -> list[tuple[str, str | None]]:
    written = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (folder / "rows.jsonl").write_text("\n".join(written) + "\n", encoding="utf-8")
    table = jsonl.read(jsonl.Options(source="jsonl", file="rows.jsonl", **given), folder, folder / "cache")
    return list(zip(table["text"].to_pylist(), table["label"].to_pylist(), strict=True))


def read_csv(folder: Path, content: str, **given: Any) -> list[tuple[str, str | None]]:
    (folder / "rows.csv").write_text(content, encoding="utf-8", newline="")
    table = csv.read(csv.Options(source="csv", file="rows.csv", **given), folder, folder / "cache")
    return list(zip(table["text"].to_pylist(), table["label"].to_pylist(), strict=True))


def test_jsonl_labels_of_any_plain_type_become_their_text(tmp_path: Path) -> None:
    labels = ["good", 1, True, None, "", -1]
    rows = read_jsonl(tmp_path, [{"text": "a", "label": label} for label in labels])
    assert [label for _, label in rows] == ["good", "1", "true", None, None, "-1"]


def test_integers_that_share_a_column_with_a_missing_value_stay_integers(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a", "b"], "label": pa.array([2.0, None], pa.float64())}), tmp_path / "rows")
    options = parquet.Options(source="parquet", file="rows")
    assert parquet.read(options, tmp_path, tmp_path / "cache")["label"].to_pylist() == ["2", None]
    pq.write_table(pa.table({"text": ["a", "b"], "label": [0.5, 1.0]}), tmp_path / "rows")
    with pytest.raises(DataError, match=r"'label' holds 0\.5; a label is a text or a whole number"):
        parquet.read(options, tmp_path, tmp_path / "cache")


def test_declared_class_names_are_used(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])}
    )
    rows = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [1, 0, -1]}, features=features)
    rows.to_parquet(tmp_path / "rows.parquet")
    table = parquet.read(parquet.Options(source="parquet", file="rows.parquet"), tmp_path, tmp_path / "cache")
    assert table["label"].to_pylist() == ["good", "bad", None]


def test_a_bad_json_line_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"rows\.jsonl cannot be read: line 3 is not JSON \(.*; write one object per line"
    ):
        read_jsonl(tmp_path, [{"text": "a", "label": "x"}, "", '{"text": "b",'])
    with pytest.raises(DataError, match="line 2 holds '3'; write one object per line"):
        read_jsonl(tmp_path, [{"text": "a", "label": "x"}, "3"])


def test_a_text_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="row 2: 'text' holds None, not a text"):
        read_jsonl(tmp_path, [{"text": "a"}, {"text": None}], label=None)
    with pytest.raises(DataError, match="row 1: 'stars' holds 5, not a text"):
        read_jsonl(tmp_path, [{"stars": 5}], text="stars", label=None)


def test_a_text_among_things_that_are_none_is_still_a_text(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="row 2: 'text' holds 7, not a text"):
        read_jsonl(tmp_path, [{"text": "a"}, {"text": 7}], label=None)


def test_labels_that_lie_in_many_pieces_stay_with_their_rows(tmp_path: Path) -> None:
    names = ["b", None, "a", "c", "a", None, "d", "b"]
    written = pa.table({"text": [f"{i} {name}" for i, name in enumerate(names)], "label": names})
    pq.write_table(written, tmp_path / "rows", row_group_size=3)
    table = parquet.read(parquet.Options(source="parquet", file="rows"), tmp_path, tmp_path / "cache")
    assert table.to_pydict() == written.to_pydict()


@pytest.mark.parametrize("module", [jsonl, csv, text])
def test_the_byte_that_is_not_utf8_is_named(module: Any, tmp_path: Path) -> None:
    (tmp_path / "rows").write_bytes(b"text,label\ncaf\xe9,good\n")
    with pytest.raises(DataError, match=r"rows:2: byte 4 of the line \(0xe9\) is not UTF-8; save the file as UTF-8"):
        module.read(
            module.Options(source=module.Options.model_fields["source"].annotation.__args__[0], file="rows"),
            tmp_path,
            tmp_path / "cache",
        )


def test_csv_cells_are_texts_whatever_they_look_like(tmp_path: Path) -> None:
    rows = read_csv(tmp_path, 'text,label\r\nNA,01\r\n123,1.0\r\n"two\nlines, one text",\r\n2024-01-31,true\r\n')
    assert rows == [("NA", "01"), ("123", "1.0"), ("two\nlines, one text", None), ("2024-01-31", "true")]


def test_csv_reads_a_byte_order_mark_and_another_delimiter(tmp_path: Path) -> None:
    assert read_csv(tmp_path, "\ufefftext\tlabel\na, b\tx\n", delimiter="\t") == [("a, b", "x")]


def test_blank_lines_are_no_texts(tmp_path: Path) -> None:
    options = text.Options(source="text", file="rows.txt")
    (tmp_path / "rows.txt").write_text("one\n\n  \ntwo\u2028still two\r\nthree", encoding="utf-8", newline="")
    assert text.read(options, tmp_path, tmp_path / "cache")["text"].to_pylist() == [
        "one",
        "two\u2028still two",
        "three",
    ]
    (tmp_path / "rows.txt").write_text("\n \n", encoding="utf-8")
    with pytest.raises(DataError, match="holds only blank lines"):
        text.read(options, tmp_path, tmp_path / "cache")


def test_the_hub_is_asked_for_one_revision_and_runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked: dict[str, Any] = {}

    def load_dataset(path: str, **given: Any) -> datasets.Dataset:
        asked.update(given, path=path)
        return datasets.Dataset.from_dict({"review": ["a"], "stars": [4]})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    options = hub.Options(
        source="hub", dataset="org/reviews", revision="a1b2", split="test", text="review", label="stars"
    )
    table = hub.read(options, tmp_path, tmp_path / "cache")
    assert table.to_pydict() == {"text": ["a"], "label": ["4"]}
    cache = str(tmp_path / "cache")
    chosen = {"name": None, "split": "test", "revision": "a1b2", "cache_dir": cache}
    assert asked == {"path": "org/reviews", **chosen}, "and trust_remote_code is not among them"
    assert hub.digest(options, tmp_path) == "org/reviews@a1b2"


def test_a_hub_that_cannot_be_reached_is_our_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def load_dataset(path: str, **given: Any) -> datasets.Dataset:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(DataError, match="hub data set org/reviews@a1b2 cannot be read: no route to host"):
        hub.read(hub.Options(source="hub", dataset="org/reviews", revision="a1b2"), tmp_path, tmp_path / "cache")


def test_a_local_folder_never_stands_in_for_a_hub_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org" / "reviews").mkdir(parents=True)
    with pytest.raises(DataError, match="shadowed by a local folder"):
        hub.read(hub.Options(source="hub", dataset="org/reviews", revision="a1b2"), tmp_path, tmp_path / "cache")
