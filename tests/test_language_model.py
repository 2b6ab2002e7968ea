"""The model that is meant is found, in a folder or alone; what is none, or damaged, is told in a line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from scripted_decoder import ScriptedDecoder, scripted
from tiny_decoders import MAX_TOKENS, documents, write_decoder, write_gguf
from tiny_models import write_model

from edgedistill import language_model
from edgedistill.cli import main
from edgedistill.errors import ModelError, RecipeError
from edgedistill.language_model import has_template, is_there, open_model
from edgedistill.models import gguf_header

NAMES = ("tiny-1M-v1.0-F32.gguf", "tiny-1M-v1.0-Q8_0.gguf", "tiny-1M-v1.0-Q2_K.gguf", "tiny-1M-v1.0-F16.gguf")
SIZES = (400, 200, 100, 300)


def folder_of(folder: Path, names: tuple[str, ...] = NAMES) -> Path:
    for name, size in zip(names, SIZES, strict=False):
        (folder / name).write_bytes(bytes(size))
    return folder


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gguf")
    write_decoder(folder / "checkpoint")
    return write_gguf(folder / "checkpoint", folder / "tiny-F32.gguf")


@pytest.mark.parametrize(
    ("variant", "chosen"),
    [
        (None, "Q8_0"), ("q8_0", "Q8_0"), ("Q2_K", "Q2_K"), ("float32", "F32"), ("f32", "F32"), ("gguf_f16", "F16"),
    ],
)  # fmt: skip
def test_a_variant_is_the_encoding_in_a_files_name(variant: str | None, chosen: str, tmp_path: Path) -> None:
    assert language_model._chosen(folder_of(tmp_path), variant).name == f"tiny-1M-v1.0-{chosen}.gguf"


def test_the_usual_variant_is_preferred_and_floats_are_taken_where_there_is_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    usual = (*NAMES[:3], "tiny-1M-v1.0-Q4_K_M.gguf")
    assert language_model._chosen(folder_of(tmp_path / "a", usual), None).name == usual[3]
    (tmp_path / "b").mkdir()
    assert language_model._chosen(folder_of(tmp_path / "b", NAMES[:1]), None).name == NAMES[0]
    (tmp_path / "c").mkdir()
    assert language_model._chosen(folder_of(tmp_path / "c", ("model.gguf",)), "model").name == "model.gguf"
    with pytest.raises(RecipeError, match="has no variant 'q4_0'; choose one of: q2_k, q8_0, f16, f32"):
        language_model._chosen(folder_of(tmp_path), "q4_0")


def write_genai(folder: Path, trained_on: str, size: int = 1) -> None:
    """Write what is read of a folder of onnxruntime-genai before its runtime loads it."""
    import onnx

    folder.mkdir(parents=True)
    (folder / "genai_config.json").write_text(json.dumps({"model": {"context_length": 77}}), encoding="utf-8")
    (folder / "model.onnx.data").write_bytes(bytes(size))
    graph = onnx.ModelProto()
    entry = graph.metadata_props.add()
    entry.key, entry.value = "edgedistill.trained_on", trained_on
    (folder / "model.onnx").write_bytes(graph.SerializeToString())


def test_folders_of_onnxruntime_genai_are_variants_too(tmp_path: Path) -> None:
    for name, size in (("float32", 900), ("onnx_int8", 500), ("onnx_int4", 300)):
        write_genai(tmp_path / name, "documents", size)
    assert is_there(tmp_path)
    for variant, chosen in ((None, "onnx_int4"), ("onnx_int8", "onnx_int8"), ("f32", "float32")):
        place = language_model._place(tmp_path, variant)
        assert (place.runtime, place.root, place.file) == ("onnxruntime_genai", tmp_path, chosen)
        assert (place.longest_tokens, place.trained_on) == (77, "documents")
    alone = language_model._place(tmp_path / "float32", None)
    assert (alone.root, alone.file, alone.name) == (tmp_path / "float32", "", "float32")
    (tmp_path / "float32" / "model.onnx").unlink()
    assert language_model._place(tmp_path, "float32").trained_on is None
    (tmp_path / "float32" / "genai_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ModelError, match=r"does not say model\.context_length"):
        open_model(tmp_path / "float32")


def test_language_models_are_known_from_what_is_none(gguf: Path, tmp_path: Path) -> None:
    assert is_there(gguf)
    assert is_there(gguf.parent)
    assert is_there(gguf.parent / "checkpoint")
    write_model(tmp_path / "encoder")
    (tmp_path / "text.txt").write_text("text", encoding="utf-8")
    for other in (tmp_path, tmp_path / "encoder", tmp_path / "text.txt"):
        assert not is_there(other)
        with pytest.raises(RecipeError, match="has no language model; name a "):
            open_model(other)


def test_the_context_is_what_was_asked_for_or_what_the_model_has(gguf: Path) -> None:
    checkpoint = gguf.parent / "checkpoint"
    assert open_model(checkpoint, threads=1).decoder.context_tokens == MAX_TOKENS
    opened = open_model(checkpoint, threads=1, context_tokens=40)
    assert (opened.decoder.context_tokens, opened.longest_tokens) == (40, MAX_TOKENS)
    for file in (checkpoint, gguf):
        with pytest.raises(RecipeError, match=f"has {MAX_TOKENS} positions; ask for a context of at most that"):
            open_model(file, context_tokens=MAX_TOKENS + 1)
    for file in (checkpoint, gguf):
        with pytest.raises(RecipeError, match="has no variant 'q8_0'"):
            open_model(file, "q8_0")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda whole: whole[:-100], "it is cut off"),
        (lambda whole: whole[: len(whole) // 2], "no sound GGUF file"),
        (lambda whole: b"GGML" + whole[4:], "must start with b'GGUF'"),
        (lambda whole: whole[:8] + b"\xff" * 8 + whole[16:], "tensors, and 65536 are the most that is believed"),
        (lambda whole: b"", "no sound GGUF file"),
    ],
)
def test_a_damaged_file_is_one_line(damage: Any, said: str, gguf: Path, tmp_path: Path) -> None:
    file = tmp_path / "bad.gguf"
    file.write_bytes(damage(gguf.read_bytes()))
    for verb in ("predict", "chat"):
        result = CliRunner().invoke(main, [verb, str(file)], input="hello\n")
        assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (1, "", 1)
        assert said in result.stderr


def test_a_file_that_says_no_next_token_is_told(tmp_path: Path) -> None:
    from gguf import GGUFWriter

    for architecture, causal in (("bert", False), ("clip", None)):
        writer = GGUFWriter(tmp_path / "other.gguf", architecture)
        if causal is not None:
            writer.add_context_length(512)
            writer.add_causal_attention(causal)
        writer.add_tensor("weights", np.zeros((2, 32), np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        with pytest.raises(ModelError, match=rf"other\.gguf \(architecture {architecture}\) is no language model"):
            open_model(tmp_path / "other.gguf")


def test_metadata_is_what_ggufs_own_reader_finds(gguf: Path) -> None:
    from gguf import GGUFReader, GGUFValueType

    fields = GGUFReader(gguf).fields.items()
    expected = {
        key: field.contents()
        for key, field in fields
        if not key.startswith("GGUF.") and field.types[0] != GGUFValueType.ARRAY
    }
    found = gguf_header.metadata(gguf)
    assert found == expected
    assert found["llama.context_length"] == MAX_TOKENS
    assert isinstance(found["tokenizer.ggml.add_bos_token"], bool)


@pytest.mark.parametrize(("trained_on", "turns"), [("documents", False), ("conversations", True), (None, True)])
def test_what_a_model_was_trained_on_decides_how_it_is_asked(
    trained_on: str | None, turns: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from edgedistill.runtimes import llama_cpp

    place = language_model._Place("llama_cpp", tmp_path, "a.gguf", 2000, trained_on)
    monkeypatch.setattr(language_model, "_place", lambda *given: place)
    monkeypatch.setattr(llama_cpp, "load", lambda *given, **more: ScriptedDecoder())
    assert open_model(tmp_path).conversations is turns
    monkeypatch.setattr(llama_cpp, "load", lambda *given, **more: ScriptedDecoder(template=False))
    assert not open_model(tmp_path).conversations


def test_a_template_that_wants_something_else_is_one() -> None:
    decoder = ScriptedDecoder()
    assert has_template(decoder)  # type: ignore[arg-type]

    def refuses(messages: Any) -> list[int]:
        raise ValueError("a system message must come first")

    decoder.chat = refuses  # type: ignore[method-assign]
    assert has_template(decoder)  # type: ignore[arg-type]


def test_one_thread_runs_unless_more_are_asked_for(gguf: Path) -> None:
    assert open_model(gguf.parent / "checkpoint").decoder.threads == 1
    assert open_model(gguf.parent / "checkpoint", threads=2).decoder.threads == 2
    assert open_model(gguf.parent / "checkpoint").decoder.threads == 1


def call(*arguments: object, stdin: str | None = None) -> Result:
    return CliRunner().invoke(main, ["predict", *map(str, arguments)], input=stdin)


def test_predict_answers_from_arguments_a_file_and_the_standard_input_alike(gguf: Path, tmp_path: Path) -> None:
    model, texts = gguf.parent / "checkpoint", documents(2)
    limits = ("--max-tokens", 6, "--threads", 1, "--raw")
    given = call(model, *texts, *limits)
    assert given.exit_code == 0, given.output
    (tmp_path / "texts.txt").write_text("\n".join(texts), encoding="utf-8")
    assert call(model, "--file", tmp_path / "texts.txt", *limits).stdout == given.stdout
    assert call(model, *limits, stdin="\n".join(texts)).stdout == given.stdout
    alone = [call(model, text, *limits).stdout for text in texts]
    assert "\n".join(alone) == given.stdout, "no text changes what is said of another"
    lines = [json.loads(line) for line in call(model, *texts, "--json", *limits).stdout.splitlines()]
    assert [line["text"] for line in lines] == texts
    for line, plain in zip(lines, alone, strict=True):
        assert line["answer"].removesuffix("\n") == plain.removesuffix("\n")
        assert (line["finish"], line["answer_tokens"]) in [("max_tokens", 6), ("end", line["answer_tokens"])]
        assert line["prompt_tokens"] > 3


def test_predict_tells_its_speed_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(language_model, "is_there", lambda path: True)
    monkeypatch.setattr(language_model, "open_model", lambda *given, **more: scripted(ScriptedDecoder()))
    quiet, verbose = call(tmp_path, "list"), call(tmp_path, "list", "--verbose")
    assert quiet.stdout == verbose.stdout == "one\ntwo\n"
    assert quiet.stderr == ""
    model, speed = verbose.stderr.splitlines()
    assert model == "script.gguf in llama_cpp, threads: 1, context: 2000"
    assert speed.endswith("; the model ended it")


def test_predict_refuses_what_does_not_fit_before_it_says_anything(gguf: Path) -> None:
    model = gguf.parent / "checkpoint"
    for arguments in (("x " * 300,), ("hello", "--max-tokens", 120), ("hello", "--context", 5)):
        result = call(model, *arguments, "--threads", 1)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "do not fit into a context of" in result.stderr


def test_more_threads_than_llama_cpp_can_have_are_refused(gguf: Path) -> None:
    result = call(gguf.parent / "checkpoint", "hello", "--threads", 513)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "513 is not in the range 1<=x<=512" in result.stderr


def test_a_gguf_file_of_anybody_answers(gguf: Path) -> None:
    pytest.importorskip("llama_cpp", reason="its bindings are an extra")
    text, limits = documents(1)[0], ("--max-tokens", 8, "--threads", 1)
    for raw in ((), ("--raw",)):
        found = [call(place, text, *limits, *raw) for place in (gguf, gguf.parent, gguf.parent / "checkpoint")]
        assert [one.exit_code for one in found] == [0, 0, 0], found[0].output
        assert len({one.stdout for one in found}) == 1, "llama.cpp says what PyTorch says"


def test_a_missing_extra_is_one_line(gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from edgedistill.runtimes import _llama

    _llama.library.cache_clear()
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    result = call(gguf, "hello")
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert "pip install 'edgedistill[gguf]'" in result.stderr
