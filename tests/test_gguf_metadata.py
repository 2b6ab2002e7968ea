"""File names follow the convention, and a file says what it is, where it comes from and how it was made."""

from pathlib import Path
from typing import Any

import pytest
from tiny_gguf import tensors_of, write_checkpoint

from edgedistill.errors import ModelError
from edgedistill.export.gguf_file import write_gguf
from edgedistill.export.gguf_metadata import NAMING, About, file_name


@pytest.mark.parametrize(
    ("name", "version", "parameters", "encoding", "made"),
    [
        ("SmolLM2-135M-Instruct", "1.0", 134_515_008, "Q4_K_M", "SmolLM2-Instruct-135M-v1.0-Q4_K_M.gguf"),
        ("news", "v0.1.2", 41_000, "F16", "news-41K-v0.1.2-F16.gguf"),
        ("smollm2_news/v2.5", "2", 1_200_000_000, "Q8_0", "smollm2-news-v25-1.2B-v2-Q8_0.gguf"),
        ("mini 6l", "1", 22_700_000, "IQ4_NL", "mini6l-23M-v1-IQ4_NL.gguf"),
        ("hermes-2-pro", "1", 8_030_000_000, "F32", "hermes-2-pro-8.0B-v1-F32.gguf"),
    ],
)
def test_names_follow_the_convention(name: str, version: str, parameters: int, encoding: str, made: str) -> None:
    assert file_name(name, version, parameters, encoding) == made
    parts = NAMING.match(made)
    assert parts is not None
    assert parts["Encoding"] == encoding


@pytest.mark.parametrize("name", ["news.gguf", "news-41K-F16.gguf", "news-41K-v1-F16.bin", "a_b-41K-v1-F16.gguf"])
def test_a_name_without_its_parts_is_seen(name: str) -> None:
    assert NAMING.match(name) is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("---", "1.0", 1000, "F16"), "nothing that a GGUF file could be named by"),
        (("news", "one", 1000, "F16"), "version 'one' is not one"),
        (("news", "1.0-beta", 1000, "F16"), "version '1.0-beta' is not one"),
        (("news", "1.0", 1000, "int4"), "'int4' is no encoding"),
    ],
)
def test_what_cannot_be_named_is_refused(given: Any, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        file_name(*given)


def written(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    from gguf import GGUFReader

    tensors = tensors_of(write_checkpoint(tmp_path), "Q8_0")
    said = {"name": "Tiny news", "version": "1.0", "licence": "apache-2.0", "file_type": "Q8_0", "facts": {}}
    write_gguf(tmp_path / "tiny.gguf", tmp_path, tensors, **{**said, "importance": None, **changes})
    return {key: one.contents() for key, one in GGUFReader(tmp_path / "tiny.gguf").fields.items()}


def test_a_file_says_what_it_is(tmp_path: Path) -> None:
    about = About(
        base_models=("HuggingFaceTB/SmolLM2-135M-Instruct", "own"), languages=("en", "de"), description="Short."
    )
    importance = {
        "file": "importance.safetensors",
        "dataset": "calibration",
        "entries_count": "14",
        "chunks_count": "3",
    }
    facts = {"recipe_sha256": "ab" * 32, "student.kind": "layers"}
    found = written(tmp_path, about=about, importance=importance, facts=facts)
    wanted = {
        "GGUF.version": 3,
        "general.architecture": "llama",
        "general.type": "model",
        "general.name": "Tiny news",
        "general.basename": "Tiny-news",
        "general.version": "v1.0",
        "general.size_label": "84K",
        "general.license": "apache-2.0",
        "general.description": "Short.",
        "general.quantized_by": "edgedistill",
        "general.tags": ["text-generation"],
        "general.languages": ["en", "de"],
        "general.base_model.count": 2,
        "general.base_model.0.name": "SmolLM2-135M-Instruct",
        "general.base_model.0.organization": "HuggingFaceTB",
        "general.base_model.0.repo_url": "https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct",
        "general.base_model.1.name": "own",
        "general.file_type": 7,
        "general.quantization_version": 2,
        "quantize.imatrix.file": "importance.safetensors",
        "quantize.imatrix.dataset": "calibration",
        "quantize.imatrix.entries_count": 14,
        "quantize.imatrix.chunks_count": 3,
        "edgedistill.recipe_sha256": "ab" * 32,
        "edgedistill.student.kind": "layers",
        "llama.attention.head_count_kv": 2,
    }
    assert {key: found.get(key) for key in wanted} == wanted


def test_what_was_not_used_is_not_said(tmp_path: Path) -> None:
    found = written(tmp_path)
    assert not [key for key in found if key.startswith(("quantize.", "edgedistill.", "general.base_model"))]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"importance": {"rows": "3"}}, "quantize.imatrix has no key 'rows'"),
        ({"facts": {"Recipe Hash": "x"}}, "'Recipe Hash' cannot be a key"),
        ({"file_type": "Q4"}, "'Q4' is no file type"),
        ({"version": "soon"}, "version 'soon' is not one"),
    ],
)
def test_what_cannot_be_said_is_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        written(tmp_path, **changes)
    assert not list(tmp_path.glob("tiny.gguf*"))
