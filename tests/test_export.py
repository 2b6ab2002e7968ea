"""What is shipped: stock tools load it with nothing of ours, it names what it came from, and no machine."""

import errno
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from finished_build import Finished, built, contents
from tiny_artifact import write_tokenizer

from edgedistill import registry
from edgedistill.errors import StageError
from edgedistill.export import stage as exporting
from edgedistill.files import sha256_of
from edgedistill.recipe_file import load
from edgedistill.stages import recipe_sha256
from edgedistill.values import Artifact

FILES = ("onnx/model.onnx", "onnx/model_quantized.onnx")
LAYOUT = registry.load("edgedistill.export.formats", "onnx")

ALONE = """
import builtins, json, sys
real = builtins.__import__
def guarded(name, *rest, **more):
    if name.partition(".")[0] in {forbidden}:
        raise ImportError(f"an app has no {{name}}")
    return real(name, *rest, **more)
builtins.__import__ = guarded
import numpy as np
import onnxruntime as ort
from tokenizers import Tokenizer
root, texts = sys.argv[1], json.loads(sys.argv[2])
tokenizer = Tokenizer.from_file(f"{{root}}/tokenizer.json")
found = {{}}
for file in {files}:
    session = ort.InferenceSession(f"{{root}}/{{file}}", providers=["CPUExecutionProvider"])
    answers = []
    for batch in (texts, *([text] for text in texts)):
        encoded = tokenizer.encode_batch(batch)
        ids = np.array([one.ids for one in encoded], dtype=np.int64)
        mask = np.array([one.attention_mask for one in encoded], dtype=np.int64)
        answers.append(session.run(["logits"], {{"input_ids": ids, "attention_mask": mask}})[0].tolist())
    found[file] = answers
labels = json.load(open(f"{{root}}/config.json"))["id2label"]
print(json.dumps({{"logits": found, "labels": labels, "loaded": sorted(sys.modules)}}))
"""
TEXTS = ["w4 w5 w6 w20", "w12 w13 w14 w30 w31 w32 w33", "w5", "w13 " * 200]


@pytest.fixture
def artifact(finished: Finished) -> Artifact:
    return finished.value("export-onnx")


def test_an_app_with_two_libraries_runs_it(finished: Finished) -> None:
    code = ALONE.format(forbidden={"edgedistill", "torch", "transformers", "onnx"}, files=FILES)
    ran = subprocess.run(
        [sys.executable, "-I", "-c", code, str(finished.artifact), json.dumps(TEXTS)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout)
    assert not {"edgedistill", "torch", "transformers", "onnx"} & {name.partition(".")[0] for name in said["loaded"]}
    assert said["labels"] == {"0": "negative", "1": "positive"}
    for together, *alone in said["logits"].values():
        assert [row.index(max(row)) for row in together] == [0, 1, 0, 1], "the labels of the texts, in order"
        assert all(abs(one[0][0] - row[0]) < 0.05 * abs(row[0]) for one, row in zip(alone, together, strict=True))


def test_an_app_that_needs_more_is_seen(finished: Finished) -> None:
    code = ALONE.format(forbidden={"tokenizers"}, files=FILES)
    ran = subprocess.run(
        [sys.executable, "-I", "-c", code, str(finished.artifact), "[]"], capture_output=True, text=True
    )
    assert "an app has no tokenizers" in ran.stderr


def test_transformers_knows_its_tokenizer_and_its_labels(finished: Finished) -> None:
    from transformers import AutoConfig, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(finished.artifact, local_files_only=True)
    config = AutoConfig.from_pretrained(finished.artifact, local_files_only=True)
    assert config.id2label == {0: "negative", 1: "positive"}
    assert config.label2id == {"negative": 0, "positive": 1}
    teacher = finished.value("teacher")
    original = AutoTokenizer.from_pretrained(teacher.path(teacher.checkpoint), local_files_only=True)
    for text in (*TEXTS, "", "unknown words"):
        ids = tokenizer(text, truncation=True)["input_ids"]
        assert ids == original(text, truncation=True)["input_ids"]
        assert len(ids) <= 32, "the recipe's max_length"


LONGEST = 32  # the recipe's max_length


def unprepared(root: Path) -> list[str]:
    """Return what an app that loads the tokenizer's files, and nothing else, would have to do itself."""
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    alone, settings = Tokenizer.from_file(str(root / "tokenizer.json")), root / "tokenizer_config.json"
    stock = AutoTokenizer.from_pretrained(root, local_files_only=True)(
        TEXTS, truncation=True, max_length=LONGEST, padding=True
    )
    found = []
    if max(len(alone.encode(text).ids) for text in TEXTS) != LONGEST:
        found.append("a long text is cut to max_length, and a short one is not lengthened")
    for batch in (TEXTS, TEXTS[:3]):
        longest = min(LONGEST, max(len(text.split()) + 2 for text in batch))
        if {len(one.ids) for one in alone.encode_batch(batch)} != {longest}:
            found.append(f"{len(batch)} texts are padded to the longest of them")
    encoded = alone.encode_batch(TEXTS)
    if [[one.ids, one.attention_mask] for one in encoded] != [
        [*pair] for pair in zip(stock["input_ids"], stock["attention_mask"], strict=True)
    ]:
        found.append("ids and mask are those of transformers")
    if {"is_local", "local_files_only"} & json.loads(settings.read_text(encoding="utf-8")).keys():
        found.append("how it was loaded here is nobody's business")
    return found


def test_its_tokenizer_cuts_and_pads_by_itself(finished: Finished, tmp_path: Path) -> None:
    assert unprepared(finished.artifact) == []
    write_tokenizer(tmp_path)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text(encoding="utf-8"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings | {"is_local": True}), encoding="utf-8")
    assert len(unprepared(tmp_path)) == 5, "a tokenizer as a checkpoint has it is seen"
    (tmp_path / "shared").mkdir()
    exporting._copy_shared(tmp_path, tmp_path / "shared")
    assert unprepared(tmp_path / "shared") == []


@pytest.mark.parametrize("file", FILES)
def test_batch_and_length_are_free(finished: Finished, file: str) -> None:
    graph = onnx.load(finished.artifact / file).graph
    for value in graph.input:
        names = [dimension.dim_param for dimension in value.type.tensor_type.shape.dim]
        assert names == ["batch", "tokens"]
    (logits,) = graph.output
    first, classes = logits.type.tensor_type.shape.dim
    assert first.dim_param == "batch"
    assert classes.dim_value in (0, 2)
    assert [value.name for value in (*graph.input, *graph.output)] == ["input_ids", "attention_mask", "logits"]


def test_each_file_holds_the_hashes_that_it_comes_from(finished: Finished, artifact: Artifact) -> None:
    quantized, recipe = finished.value("quantize-dynamic_int8"), load(finished.recipe)
    for variant in artifact.variants:
        facts = {entry.key: entry.value for entry in onnx.load(finished.artifact / variant.file).metadata_props}
        expected = {
            "edgedistill.recipe_sha256": recipe_sha256(recipe),
            "edgedistill.teacher_sha256": finished.value("teacher").weights_sha256,
            "edgedistill.teacher_source": "teacher",
            "edgedistill.student_sha256": finished.value("student").weights_sha256,
            "edgedistill.labels": '["negative", "positive"]',
            "edgedistill.licence": "MIT",
        }
        if variant.scheme != "float32":
            expected |= {
                "edgedistill.quantized_sha256": quantized.weights_sha256,
                "edgedistill.method": "dynamic_int8",
            }
        assert facts == expected


def foreign(raw: bytes, finished: Finished) -> list[bytes]:
    """Return what in a file speaks of the machine that it was made on."""
    places = (str(finished.out.parent), str(Path(__file__).parent), sys.prefix, str(Path.home()) + "/")
    return [word for word in (*(place.encode() for place in places), b"site-packages", b".py\x00") if word in raw]


def test_nothing_in_the_artifact_names_this_machine(finished: Finished) -> None:
    for name, raw in contents(finished.artifact).items():
        assert not foreign(raw, finished), name
    assert foreign(f"made in {finished.out}".encode(), finished), "such a line would be seen"
    for file in FILES:
        model = onnx.load(finished.artifact / file)
        assert (model.producer_name, model.producer_version, model.doc_string) == ("edgedistill", "", "")
        assert not [node.name for node in model.graph.node if node.doc_string]


def test_the_sums_hold_for_sha256sum(finished: Finished, tmp_path: Path) -> None:
    check = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    said = subprocess.run(check, cwd=finished.artifact, capture_output=True, text=True, check=True).stdout
    named = {line.partition(":")[0] for line in said.splitlines()}
    assert named == contents(finished.artifact).keys() - {"SHA256SUMS"}
    copy = finished.copied(tmp_path)
    (copy.artifact / "NOTICE").write_text("another", encoding="utf-8")
    assert subprocess.run(check, cwd=copy.artifact, capture_output=True, check=False).returncode == 1


def test_the_notice_names_the_teacher_and_both_licences(finished: Finished) -> None:
    notice = (finished.artifact / "NOTICE").read_text(encoding="utf-8")
    for fact in ("distributed under MIT", "teacher", "Apache-2.0", finished.value("teacher").source_weights_sha256):
        assert fact in notice


def test_a_licence_text_of_the_teacher_goes_with_the_artifact(finished: Finished, tmp_path: Path) -> None:
    copy = finished.copied(tmp_path)
    teacher = copy.value("teacher")
    (teacher.path(teacher.checkpoint) / "LICENSE").write_text("the text", encoding="utf-8")
    exported(copy, tmp_path / "stage")
    assert (tmp_path / "stage" / "tiny-0.1.0" / "teacher-LICENSE").read_text(encoding="utf-8") == "the text"


def test_the_card_parses_and_has_the_measured_quality(finished: Finished) -> None:
    from huggingface_hub import ModelCard

    card = ModelCard.load(finished.artifact / "README.md")
    assert (card.data.license, card.data.library_name, card.data.pipeline_tag) == ("mit", "onnx", "text-classification")
    assert card.data.metrics == ["accuracy"]
    results = {(result.dataset_name, result.metric_name): result.metric_value for result in card.data.eval_results}
    assert len(results) == 4, "two files on test and one other set"
    said = json.loads((finished.run / "report.json").read_text(encoding="utf-8"))["values"]["benchmark"]["value"]
    measured = [
        subject["quality"]["test"]["metric"]["value"] for subject in said["subjects"] if "float32" in subject["name"]
    ]
    assert round(measured[0], 4) in results.values()
    assert "teacher" in card.content
    assert finished.value("teacher").weights_sha256 in card.content


def test_what_is_said_of_the_files_is_so(finished: Finished, artifact: Artifact) -> None:
    assert [(variant.name, str(variant.file)) for variant in artifact.variants] == [
        ("float32", FILES[0]),
        ("dynamic_int8", FILES[1]),
    ]
    for variant in artifact.variants:
        file = artifact.path(artifact.root) / variant.file
        assert (variant.sha256, variant.size_bytes) == (sha256_of(file), file.stat().st_size)
        assert sha256_of(finished.artifact / variant.file) == variant.sha256, "the promoted file is the proven one"
        assert variant.exporter == "torchscript"
        assert variant.parity.weights_bit_equal
    assert artifact.variants[1].size_bytes < artifact.variants[0].size_bytes
    assert artifact.shared_files.keys() == {"NOTICE", "config.json", "tokenizer.json", "tokenizer_config.json"}
    assert artifact.teacher is not None
    assert not list(finished.artifact.rglob("*teacher*"))


def test_another_process_writes_the_same_bytes(finished: Finished, artifact: Artifact, tmp_path: Path) -> None:
    copy = finished.copied(tmp_path).without("export-onnx")
    assert built(copy, verb="export").returncode == 0
    again = copy.value("export-onnx")
    assert contents(again.path(again.root)) == contents(artifact.path(artifact.root))
    assert again.model_dump() == artifact.model_dump()


def exported(finished: Finished, folder: Path, **settings: Any) -> Artifact:
    """Run the stage on the finished build's values."""
    folder.mkdir()
    values = {name: finished.value(name) for name in ("teacher", "corpus", "tokens", "student")}
    return exporting.export(
        LAYOUT.Options(format="onnx", **settings), title="tiny-0.1.0", licence="MIT", recipe_sha256="0" * 64, **values,
        quantized={"dynamic_int8": finished.value("quantize-dynamic_int8")}, folder=folder,
    )  # fmt: skip


Write = Callable[..., tuple[int, int]]


def doubled(write: Write) -> Write:
    """Return an exporter whose files have one doubled weight."""

    def written(model: Any, file: Path, *rest: Any) -> tuple[int, int]:
        import torch

        with torch.no_grad():
            tensor = next(tensor for name, tensor in model.state_dict().items() if name.endswith("bias"))
            tensor.mul_(2)
            versions = write(model, file, *rest)
            tensor.div_(2)
        return versions

    return written


def raising(_write: Write) -> Write:
    def written(*_given: Any) -> tuple[int, int]:
        raise RuntimeError("Unsupported: aten::frobnicate\nand a long trace")

    return written


def spoil(monkeypatch: pytest.MonkeyPatch, **spoilt: Callable[[Write], Write]) -> None:
    """Exchange the named exporters for broken ones."""
    real = LAYOUT.write

    def write(model: Any, file: Path, exporter: str, *rest: Any) -> tuple[int, int]:
        return (spoilt[exporter](real) if exporter in spoilt else real)(model, file, exporter, *rest)

    monkeypatch.setattr(LAYOUT, "write", write)


def broken_in_two_ways(write: Write) -> Write:
    """Return an exporter that raises at codes, and changes a weight of everything else."""

    def written(model: Any, *rest: Any) -> tuple[int, int]:
        coded = any(name.endswith(".codes") for name in model.state_dict())
        return (raising if coded else doubled)(write)(model, *rest)

    return written


def test_where_the_first_exporter_fails_the_second_is_taken_and_the_reason_is_kept(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, torchscript=broken_in_two_ways)
    made = exported(finished, tmp_path / "stage")
    for variant in (*made.variants, made.teacher):
        assert variant is not None
        assert variant.exporter == "dynamo"
        assert variant.parity.exact.max_abs_diff <= (variant.parity.exact.tolerance or 0)
        (refused,) = variant.exporters_refused
        if variant.scheme == "float32":
            assert re.search(r"^torchscript: onnx/model.onnx disagrees .* largest difference", refused)
        else:
            assert refused == "torchscript: RuntimeError: Unsupported: aten::frobnicate"


def test_where_both_disagree_there_is_an_error_with_numbers_and_no_file(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, torchscript=doubled, dynamo=doubled)
    numbers = r"largest difference [\d.e-]+, tolerance [\d.e-]+, on a batch of"
    with pytest.raises(StageError, match=rf"torchscript: .*{numbers}.*; dynamo: .*{numbers}"):
        exported(finished, tmp_path / "stage")
    assert not list((tmp_path / "stage").rglob("*.onnx"))


def test_where_both_raise_the_reasons_are_told(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, torchscript=raising, dynamo=raising)
    with pytest.raises(StageError, match=r"could not be written: torchscript: .*frobnicate; dynamo: .*frobnicate"):
        exported(finished, tmp_path / "stage")


def test_a_disagreement_and_a_raise_are_both_told(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, torchscript=doubled, dynamo=raising)
    with pytest.raises(StageError, match=r"torchscript: .*largest difference.*; dynamo: .*frobnicate"):
        exported(finished, tmp_path / "stage")


def test_a_full_disk_is_not_held_against_the_exporter(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_write: Write) -> Write:
        def written(*_given: Any) -> tuple[int, int]:
            raise OSError(errno.ENOSPC, "No space left on device")

        return written

    spoil(monkeypatch, torchscript=full)
    with pytest.raises(OSError, match="No space left"):
        exported(finished, tmp_path / "stage")
