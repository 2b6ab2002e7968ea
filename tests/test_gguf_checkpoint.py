"""A GGUF file becomes the checkpoint that it was made of, with its tokenizer; or an error, and nothing is left."""

import json
import re
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from odd_texts import ODD_TEXTS
from safetensors.torch import load_file
from tiny_decoders import MAX_TOKENS, SPECIAL, TEMPLATE, VOCAB, write_decoder, write_gguf

from edgedistill.errors import ModelError
from edgedistill.models.decoder import load_decoder
from edgedistill.models.gguf_checkpoint import unpack
from edgedistill.models.gguf_tokenizer import KNOWN
from edgedistill.models.load import load_tokenizer

IDS = torch.randint(3, VOCAB, (2, 9), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of one layer; not to be changed."""
    folder = tmp_path_factory.mktemp("tiny") / "checkpoint"
    write_decoder(folder, layers=1)
    return folder


@pytest.fixture(scope="module")
def sound(tiny: Path) -> bytes:
    """A file that can be unpacked."""
    return write_gguf(tiny, tiny.parent / "sound.gguf").read_bytes()


def refused(content: bytes, folder: Path) -> str:
    """Return what is said of a file that cannot be used; nothing of it is left."""
    (folder / "bad.gguf").write_bytes(content)
    with pytest.raises(ModelError) as caught:
        unpack(folder / "bad.gguf", folder / "made")
    assert [file.name for file in folder.iterdir()] == ["bad.gguf"]
    said = str(caught.value)
    assert said.startswith(str(folder / "bad.gguf"))
    assert "\n" not in said
    return said


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
def test_a_checkpoint_comes_back_to_the_last_bit(architecture: str, tmp_path: Path) -> None:
    write_decoder(tmp_path / "a", architecture)
    file = write_gguf(tmp_path / "a", tmp_path / "model.gguf")
    made = unpack(file, tmp_path / "made")
    assert made == tmp_path / "made"
    weights, known = load_file(made / "model.safetensors"), load_file(tmp_path / "a" / "model.safetensors")
    assert weights.keys() == known.keys()
    assert all(torch.equal(weights[name], known[name]) for name in known)
    with torch.no_grad():  # where the settings differ, so do these
        logits, right = (load_decoder(folder)(IDS, torch.ones_like(IDS)) for folder in (made, tmp_path / "a"))
    assert torch.allclose(logits, right, atol=1e-6)
    assert {file.name for file in made.iterdir()} == {
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert not [file for file in tmp_path.iterdir() if file.name not in ("a", "model.gguf", "made")]


def test_a_blockwise_file_is_what_its_codes_stand_for(tiny: Path, tmp_path: Path) -> None:
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize, quantize

    made = unpack(write_gguf(tiny, tmp_path / "model.gguf", stored_as="Q8_0"), tmp_path / "made")
    stored = load_file(made / "model.safetensors")
    for name, weights in load_file(tiny / "model.safetensors").items():
        kind = GGMLQuantizationType["Q8_0" if weights.ndim == 2 else "F32"]
        expected = torch.from_numpy(dequantize(quantize(weights.numpy(), kind), kind))
        assert torch.equal(stored[name], expected.reshape(weights.shape)), name  # rows are turned, and turned back


@pytest.mark.parametrize(("precision", "stored_as"), [(torch.bfloat16, "BF16"), (torch.float16, "F16")])
def test_half_precision_stays_half_where_that_is_exact(precision: torch.dtype, stored_as: str, tmp_path: Path) -> None:
    model = write_decoder(tmp_path / "a", layers=1).to(precision).float()
    model.save_pretrained(tmp_path / "a")
    made = unpack(write_gguf(tmp_path / "a", tmp_path / "model.gguf", stored_as=stored_as), tmp_path / "made")
    stored = load_file(made / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {precision}
    assert all(torch.equal(tensor.float(), model.state_dict()[name]) for name, tensor in stored.items())
    model.model.norm.weight.data[0] = 1 + 2**-20
    model.save_pretrained(tmp_path / "a")
    made = unpack(write_gguf(tmp_path / "a", tmp_path / "model.gguf", stored_as=stored_as), tmp_path / "made")
    assert {tensor.dtype for tensor in load_file(made / "model.safetensors").values()} == {torch.float32}


@pytest.mark.parametrize("pre", ["smollm", "qwen2"])
def test_the_tokenizer_reads_as_the_checkpoint_s_does(pre: str, tmp_path: Path) -> None:
    write_decoder(tmp_path / "a", layers=1, pre=pre)
    made = load_tokenizer(unpack(write_gguf(tmp_path / "a", tmp_path / "m.gguf", pre=pre), tmp_path / "made"))
    known = load_tokenizer(tmp_path / "a")
    for text in ODD_TEXTS:
        assert made(text)["input_ids"] == known(text)["input_ids"], repr(text)
        assert made.decode(made(text)["input_ids"]) == text
    assert made.get_vocab() == known.get_vocab()
    assert made.all_special_ids == known.all_special_ids
    assert made.chat_template == TEMPLATE
    assert made.model_max_length == MAX_TOKENS
    assert [made.pad_token, made.bos_token, made.eos_token] == list(SPECIAL)


def test_digits_are_cut_as_the_file_says(tiny: Path, tmp_path: Path) -> None:
    vocabulary = json.loads((tiny / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    tokens = [*sorted(vocabulary["vocab"], key=vocabulary["vocab"].get)[:-1], "12"]
    merges = [" ".join(pair) for pair in vocabulary["merges"][:-1]] + ["1 2"]
    pieces = {}
    for pre in KNOWN:
        file = write_gguf(tiny, tmp_path / "m.gguf", pre=pre, tokens=tokens, merges=merges, add_bos_token=False)
        made = load_tokenizer(unpack(file, tmp_path / "made"))
        pieces[pre] = made.tokenize("a 1212")
    assert pieces == {
        "gpt-2": ["a", "Ġ", "12", "12"],
        "smollm": ["a", "Ġ", "1", "2", "1", "2"],
        "qwen2": ["a", "Ġ", "1", "2", "1", "2"],
        "llama-bpe": ["a", "Ġ", "12", "1", "2"],
    }


@pytest.mark.parametrize(
    ("said", "ids"),
    [
        ({"add_bos_token": True}, [1, 300]),
        ({"add_bos_token": True, "add_eos_token": True}, [1, 300, 2]),
        ({"add_bos_token": None}, [300]),
        ({"add_bos_token": None, "pre": "llama-bpe"}, [1, 300]),
        ({"add_bos_token": False, "pre": "llama-bpe"}, [300]),
        ({"bos_token_id": None}, [300]),
        ({"padding_token_id": None}, [300]),
        ({"bos_token_id": 0, "eos_token_id": 0, "add_bos_token": True}, [0, 300]),
    ],
)
def test_what_frames_a_text_is_what_the_file_says(
    said: dict[str, Any], ids: list[int], tiny: Path, tmp_path: Path
) -> None:
    folder = unpack(write_gguf(tiny, tmp_path / "m.gguf", **said), tmp_path / "made")
    made = load_tokenizer(folder)
    assert made(made.decode([300]))["input_ids"] == ids
    bos, eos = said.get("bos_token_id", 1), said.get("eos_token_id", 2)
    assert (made.bos_token_id, made.eos_token_id) == (bos, eos)
    assert made.pad_token_id == (eos if said.get("padding_token_id", 0) is None else 0)
    config = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
    assert config["eos_token_id"] == eos
    assert config.get("bos_token_id") == bos


def test_the_end_of_a_turn_ends_an_answer_too(tiny: Path, tmp_path: Path) -> None:
    folder = unpack(write_gguf(tiny, tmp_path / "m.gguf", eos_token_id=0, eot_token_id=2), tmp_path / "made")
    for name in ("config.json", "generation_config.json"):
        assert json.loads((folder / name).read_text(encoding="utf-8"))["eos_token_id"] == [0, 2]


def test_what_was_there_is_replaced_and_what_lies_beside_the_file_does_not_count(tiny: Path, tmp_path: Path) -> None:
    file = write_gguf(tiny, tmp_path / "model.gguf")
    (tmp_path / "config.json").write_text('{"model_type": "qwen2"}')
    (tmp_path / "generation_config.json").write_text('{"temperature": 9.0}')
    (tmp_path / "adapter_config.json").write_text("{")
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "old").touch()
    made = unpack(file, tmp_path / "made")
    assert not (made / "old").exists()
    assert json.loads((made / "config.json").read_text())["model_type"] == "llama"
    assert "temperature" not in (made / "generation_config.json").read_text()


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ({"pre": "tekken"}, r"it cuts words by 'tekken', and these are known: .*qwen2, smollm"),
        ({"pre": None}, r"it needs tokenizer\.ggml\.pre, and has none"),
        ({"model": "llama"}, "its tokenizer is a 'llama', and only 'gpt2' can be read"),
        ({"model": None}, r"it needs tokenizer\.ggml\.model"),
        ({"tokens": None}, r"it needs tokenizer\.ggml\.tokens, and has none; take a GGUF file .* with its tokenizer"),
        ({"merges": None}, r"it needs tokenizer\.ggml\.merges"),
        ({"merges": ["a b", "xx yy"]}, "it merges 'a' and 'b'|it merges 'xx' and 'yy'"),
        ({"token_type": None}, "352 tokens, 352 different ones, and 0 token types"),
        ({"tokens": ["a"] * VOCAB}, "352 tokens, 1 different ones"),
        ({"eos_token_id": 352}, "its eos_token_id is 352, and its vocabulary has 352 tokens"),
        ({"eos_token_id": None}, r"names no tokenizer\.ggml\.eos_token_id"),
        ({"bos_token_id": None, "add_bos_token": True}, "start with BOS, and it names no"),
    ],
)
def test_a_tokenizer_that_cannot_be_read_exactly_is_refused(
    said: dict[str, Any], text: str, tiny: Path, tmp_path: Path
) -> None:
    content = write_gguf(tiny, tmp_path / "bad.gguf", **said).read_bytes()
    assert re.search(text, refused(content, tmp_path))


def replaced(content: bytes, key: str, value: int | float, layout: str = "<I") -> bytes:
    """Return a file in which the number that a metadata key has is another one."""
    at = content.index(key.encode()) + len(key) + 4
    return content[:at] + struct.pack(layout, value) + content[at + struct.calcsize(layout) :]


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("llama.block_count", 2, "its llama.block_count is 2, and it holds 1"),
        ("llama.block_count", 2**31, "its llama.block_count is 2147483648, and it holds 1"),
        ("llama.embedding_length", 2**30, "of its tensors are not what its hyperparameters say|cannot be read"),
        ("llama.feed_forward_length", 97, r"3 of its tensors .* as blk\.0\.ffn_down\.weight, which is \(64, 96\)"),
        ("llama.attention.head_count_kv", 1, r"blk\.0\.attn_k\.weight, which is \(32, 64\) and must be \(16, 64\)"),
        ("llama.attention.head_count", 0, "cannot be read as a causal language model|not what its hyperparameters say"),
        ("llama.attention.key_length", 8, "its llama.attention.key_length is 8, and transformers makes 16 of it"),
        ("llama.vocab_size", 300, "not what its hyperparameters say, such as token_embd.weight"),
    ],
)  # fmt: skip
def test_hyperparameters_that_do_not_fit_the_tensors_are_told(
    key: str, value: int, text: str, sound: bytes, tmp_path: Path
) -> None:
    assert re.search(text, refused(replaced(sound, key, value), tmp_path))


def test_what_would_be_lost_in_silence_is_refused(sound: bytes, tmp_path: Path) -> None:
    base, length, query = b"llama.rope.freq_base", b"llama.context_length", b"blk.0.attn_q.weight"
    for old, new, text in (
        (base, b"llama.rope.freq_bass", "its llama.rope.freq_bass is 10000.0, which transformers would not read"),
        (length, b"llama.rope.freq_bass", "it has no llama.context_length, and nothing is made up"),
        (query, b"blk.0.attn_z.weight", "2 of its tensors .*attn_q.weight, which is missing and must be"),
        (query, b"blk.0.a_rope.weight", r"a_rope.weight, which is \(64, 64\) and must be absent"),
    ):
        assert re.search(text, refused(sound.replace(old, new), tmp_path)), text


def test_another_architecture_is_refused(sound: bytes, tmp_path: Path) -> None:
    assert "its architecture is 'lemma', and these can be read: llama, " in refused(
        sound.replace(b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0lemma"), tmp_path
    )


def test_weights_that_are_no_numbers_are_told(tmp_path: Path) -> None:
    model = write_decoder(tmp_path / "a", layers=1)
    model.model.norm.weight.data[0] = float("inf")
    model.save_pretrained(tmp_path / "a")
    content = write_gguf(tmp_path / "a", tmp_path / "a" / "m.gguf").read_bytes()
    (tmp_path / "b").mkdir()
    assert "weights of model.norm.weight are NaN or infinite" in refused(content, tmp_path / "b")


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda sound: b"", "is no sound GGUF file"),
        (lambda sound: b"GG", "it ends at byte 2"),
        (lambda sound: b"<html>" + sound[6:], r"it starts with b'<htm', and must start with b'GGUF'"),
        (lambda sound: sound[:4] + b"\1\0\0\0" + sound[8:], "its version is 1, and 2 or 3 is needed"),
        (lambda sound: sound[:4] + b"\0\0\0\3" + sound[8:], "its version is 50331648, and 2 or 3"),
        (lambda sound: sound[:8] + struct.pack("<Q", 2**63) + sound[16:], f"it holds {2**63} tensors, and 65536"),
        (lambda sound: sound[:16] + struct.pack("<Q", 2**40) + sound[24:], f"it holds {2**40} metadata keys"),
        (lambda sound: sound[:24] + struct.pack("<Q", 2**62) + sound[32:], f"{2**62} more are to follow byte 32"),
        (lambda sound: sound[:-1], "and its tensors need [0-9]+: it is cut off"),
        (lambda sound: sound[: len(sound) // 2], "and its tensors need [0-9]+: it is cut off"),
        (lambda sound: sound[:500], "it ends at byte 500, and"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_told(damage: Any, text: str, sound: bytes, tmp_path: Path) -> None:
    assert re.search(text, refused(damage(sound), tmp_path))


def test_an_array_that_says_it_is_endless_is_not_believed(sound: bytes, tmp_path: Path) -> None:
    for elements in (2**20 + 1, 2**60):
        key = "tokenizer.ggml.token_type"
        at = sound.index(key.encode()) + len(key) + 8
        said = refused(sound[:at] + struct.pack("<Q", elements) + sound[at + 8 :], tmp_path)
        assert f"it holds {elements} elements of tokenizer.ggml.token_type" in said


def test_a_header_with_any_bit_flipped_is_an_error_or_a_model(sound: bytes, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    header = sound.index(b"token_embd.weight") + 2000
    seen = {"refused": 0, "read": 0}
    for at in [*range(0, 40), *(int(one) for one in random.integers(40, header, 40))]:
        flipped = bytearray(sound)
        flipped[at] ^= 1 << int(random.integers(8))
        (tmp_path / "bad.gguf").write_bytes(flipped)
        seen[outcome(tmp_path)] += 1
    assert seen["refused"] > 30


def outcome(folder: Path) -> str:
    """Return whether bad.gguf is refused in one line and nothing of it is left, or makes a checkpoint that loads."""
    try:
        made = unpack(folder / "bad.gguf", folder / "made")
    except ModelError as error:
        said = str(error)
    else:
        load_tokenizer(made)
        load_decoder(made)
        shutil.rmtree(made)
        return "read"
    assert "\n" not in said
    assert [file.name for file in folder.iterdir()] == ["bad.gguf"]
    return "refused"
