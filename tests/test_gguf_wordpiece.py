"""llama.cpp reads texts as the tokenizer does, except those that are told."""

import json
from pathlib import Path
from typing import Any

import pytest
from odd_texts import ODD_TEXTS
from test_gguf_encoder import loaded, written
from tiny_sentence_encoder import ROWS, write_sentence_encoder
from tokenizers import Tokenizer

from edgedistill.errors import ModelError, ParityError, StageError
from edgedistill.export import gguf_wordpiece, parity
from edgedistill.export.formats import gguf_encoder
from edgedistill.export.gguf_wordpiece import read_alike, read_word_pieces
from edgedistill.models.load import load_tokenizer

OTHERWISE = ("x" * 3000, "नमस्ते दुनिया", "안녕하세요", "3️⃣ 4", "a\x0bb", "a\u2581b", "तुम कहाँ हो?")
"""Long words, Hangul, vowels that are marks, an enclosing mark, a tab that is vertical, llama.cpp's own sign."""
ALL_TEXTS = tuple(
    dict.fromkeys(
        [*ODD_TEXTS, *parity.ODD_TEXTS, *OTHERWISE, "İstanbul ŞĞ ǅ", "Ωμέγα ς", "a[MASK]b [unk] [UNK]", "[CLS"]
    )
)


def with_every_character(folder: Path, *, lowercase: bool) -> Any:
    """Write an encoder whose tokenizer has every character of the texts as pieces, so that no id hides another."""
    characters = sorted({part for text in ALL_TEXTS for one in text for part in gguf_wordpiece._stripped(one) + one})
    size = 2 * len(characters) + 2 * 26 + 50
    model = write_sentence_encoder(folder, lowercase=lowercase, vocab_size=size)
    written_json = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    vocab = {token: i for i, token in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"))}
    for one in [*"abcdefghijklmnopqrstuvwxyz", *(c for c in characters if c != "\0")]:
        for piece in (one, f"##{one}"):
            vocab.setdefault(piece, len(vocab))
    written_json["model"]["vocab"] = vocab
    (folder / "tokenizer.json").write_text(json.dumps(written_json), encoding="utf-8")
    return model


@pytest.fixture(scope="module", params=[True, False], ids=["uncased", "cased"])
def readers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[bool, Tokenizer, Any]:
    folder = tmp_path_factory.mktemp("tokenizer")
    model = with_every_character(folder, lowercase=request.param)
    artifact = loaded(written(folder, model))
    artifact.longest_tokens = 10**6
    return request.param, Tokenizer.from_file(str(folder / "tokenizer.json")), artifact


def differing(tokenizer: Tokenizer, artifact: Any) -> list[str]:
    return [
        text for text in ALL_TEXTS if tokenizer.encode(text).ids != artifact.encode([text])["input_ids"][0].tolist()
    ]


def test_ids_differ_only_where_it_is_told(readers: tuple[bool, Tokenizer, Any]) -> None:
    lowercase, tokenizer, artifact = readers
    found = differing(tokenizer, artifact)
    assert not [text for text in found if read_alike(text, lowercase=lowercase)]
    told = [text for text in ALL_TEXTS if not read_alike(text, lowercase=lowercase)]
    assert len(ALL_TEXTS) - len(told) > 50
    if lowercase:
        assert set(found) >= set(OTHERWISE), "what is told does differ"
    else:
        assert {"x" * 3000, "a\x0bb", "a\u2581b"} <= set(found)
        assert "안녕하세요" not in found


def test_the_check_can_fail(readers: tuple[bool, Tokenizer, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    lowercase, tokenizer, artifact = readers
    monkeypatch.setattr(gguf_wordpiece, "LONGEST_WORD", 10**6)
    assert [text for text in differing(tokenizer, artifact) if read_alike(text, lowercase=lowercase)] == ["x" * 3000]


def test_parity_lets_only_those_texts_differ_that_are_told(tmp_path: Path) -> None:
    model = with_every_character(tmp_path, lowercase=True)
    file, tokenizer = written(tmp_path, model), load_tokenizer(tmp_path)
    loaded(file)  # skips where the bindings are missing
    given: dict[str, Any] = {
        "runtime": gguf_encoder.RUNTIME, "root": tmp_path, "file": file.name, "scheme": "float32",
        "real_texts": ["good films", "안녕하세요"], "weights_bit_equal": True, "approximates": True,
    }  # fmt: skip
    proof = parity.prove(model, tokenizer, reads_alike=gguf_encoder.reader(tmp_path), **given)
    assert {"x" * parity.SHOWN, "안녕하세요"} <= set(proof.read_otherwise)
    assert proof.tokenizer_texts == len(parity.ODD_TEXTS) + 2 - len(proof.read_otherwise)
    with pytest.raises(StageError, match="as other ids than the checkpoint's"):
        parity.prove(model, tokenizer, **given)
    with pytest.raises(ParityError):
        parity.prove(model, tokenizer, reads_alike=gguf_encoder.reader(tmp_path), **{**given, "approximates": False})


def test_tokens_are_spelled_with_the_space_before_a_word(tmp_path: Path) -> None:
    write_sentence_encoder(tmp_path)
    pieces = read_word_pieces(tmp_path, ROWS)
    vocab = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    assert pieces.tokens[vocab["good"]] == "\u2581good"
    assert pieces.tokens[vocab["##ka"]] == "ka"
    assert pieces.tokens[vocab["[CLS]"]] == "[CLS]"
    assert pieces.types[vocab["[CLS]"]] == 3
    assert pieces.special == {name: vocab[f"[{name.upper()}]"] for name in ("cls", "sep", "unk", "pad", "mask")}
    assert len(pieces.tokens) == len(set(pieces.tokens)) == ROWS


def _set(path: str, value: Any) -> Any:
    def change(written_json: dict[str, Any]) -> None:
        *outer, last = path.split(".")
        for key in outer:
            written_json = written_json[key]
        written_json[last] = value

    return change


def _first_added_is(key: str, value: Any) -> Any:
    return lambda written_json: written_json["added_tokens"][0].update({key: value})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_set("model.type", "BPE"), "it is of kind BPE"),
        (_set("model.max_input_chars_per_word", 7), "max_input_chars_per_word is 7, not 100"),
        (_set("model.continuing_subword_prefix", "@@"), "continuing_subword_prefix is '@@'"),
        (_set("normalizer.handle_chinese_chars", False), "normalizer.handle_chinese_chars is false"),
        (_set("normalizer.strip_accents", False), "lowercases without stripping them"),
        (_set("normalizer", None), "are not BertNormalizer and BertPreTokenizer"),
        (_first_added_is("special", False), r"'\[PAD\]' is not special"),
        (_set("post_processor", None), "does not put cls_token before a text"),
        (_set("model.vocab.beyond", ROWS), f"a token {ROWS}, and the model's token table {ROWS} rows"),
        (_set("model.vocab.[PAD390]", ROWS - 1), None),
        (_set("model.vocab.zq\0b", 375), None),
        (lambda one: one["model"]["vocab"].update({"a\0b": 375, "a\0c": 376}), "would call the same"),
    ],
)
def test_what_llama_cpp_cannot_read_is_refused(tmp_path: Path, change: Any, said: str | None) -> None:
    write_sentence_encoder(tmp_path)
    file = tmp_path / "tokenizer.json"
    written_json = json.loads(file.read_text(encoding="utf-8"))
    change(written_json)
    file.write_text(json.dumps(written_json), encoding="utf-8")
    if said is None:
        assert read_word_pieces(tmp_path, ROWS)
    else:
        with pytest.raises(ModelError, match=said):
            read_word_pieces(tmp_path, ROWS)
