"""A language model with some of its tokens alone: computes what it did, reads what it read, loses no text."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from odd_texts import ODD_TEXTS
from tiny_decoders import SPECIAL, VOCAB, documents, write_decoder, write_tokenizer
from tiny_tokenizers import write as write_kind
from tokenizers import Tokenizer

from edgedistill.distill.decoder.own_reading import byte_lengths
from edgedistill.distill.decoder.vocabulary import Readers
from edgedistill.errors import ModelError, StageError
from edgedistill.models.config_json import read_config
from edgedistill.models.decoder import load_decoder
from edgedistill.models.decoder_vocabulary import (
    first_pieces,
    of_generation,
    of_template,
    trimmed_decoder,
    written_of,
)
from edgedistill.models.load import load_tokenizer
from edgedistill.models.tokenizer_json import write_trimmed
from edgedistill.models.vocabulary import chosen
from edgedistill.section import VocabularyOptions

LEARNED = documents(60, seed=3)
SCRIPTS = st.sampled_from(
    [
        "the cat",
        " 7",
        "\t",
        "\n\n",
        "  ",
        "12,345",
        " 3",
        "🎬",
        "👩‍👩‍👧‍👦",
        "Füße",
        "Привет",
        "你好",
        "สวัสดี",
        "مرحبا",
        "नमस्ते",
        "don't",
        "<|im_end|>",
        "<|im_start|>user\n",
        "A red ball.",
        "\u200d",
        "e\u0301",
    ]
)
TEXTS = st.lists(SCRIPTS | st.text(max_size=8) | st.sampled_from(LEARNED), max_size=6).map("".join)


def trimmed(folder: Path, **options: int) -> tuple[Any, Any, np.ndarray]:
    """Return the tokenizer of a checkpoint before and after tokens were dropped, and the kept ids."""
    whole = load_tokenizer(folder)
    counts = np.bincount(np.concatenate([whole(text)["input_ids"] for text in LEARNED]).astype(int), minlength=VOCAB)
    needed = of_template(whole) | of_generation(folder)
    kept = chosen(VocabularyOptions(**options), whole, read_config(folder), counts, needed)
    write_trimmed(whole, kept.tolist(), folder / "trimmed")
    return whole, load_tokenizer(folder / "trimmed"), kept


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("decoder")
    write_decoder(place)
    trimmed(place, size=320)
    return place


@pytest.fixture(scope="module")
def readers(folder: Path) -> Readers:
    return Readers(*trimmed(folder, size=320))


def backends(readers: Readers) -> tuple[Tokenizer, Tokenizer]:
    """Return both tokenizers as the library tokenizers has them, with nothing of transformers."""
    return readers.whole.backend_tokenizer, readers.own.backend_tokenizer


@settings(max_examples=100, deadline=None)
@given(text=TEXTS)
def test_any_text_is_read_whole_and_as_before_where_it_needs_only_kept_tokens(readers: Readers, text: str) -> None:
    whole, own = backends(readers)
    new = {int(old): i for i, old in enumerate(readers.kept)}
    before, after = whole.encode(text, add_special_tokens=False).ids, own.encode(text, add_special_tokens=False).ids
    assert own.decode(after, skip_special_tokens=False) == whole.decode(before, skip_special_tokens=False)
    if all(token in new for token in before):
        assert after == [new[token] for token in before]
    readers.compared(iter([text]), documents=True)


def test_what_is_counted_is_so(readers: Readers) -> None:
    whole, own = backends(readers)
    texts = [*documents(40, seed=9), "Zürich. 🎬 the king!\nA dog"]
    said = readers.compared(iter(texts), documents=True)
    ids = [whole.encode(text).ids for text in texts]
    kept = set(readers.kept.tolist())
    assert (said.texts, said.whole_tokens) == (len(texts), sum(map(len, ids)))
    assert said.tokens == sum(len(own.encode(text).ids) for text in texts) > said.whole_tokens
    assert said.dropped_tokens == sum(token not in kept for row in ids for token in row) > 0
    passages = [part for text in texts for line in text.split("\n") for part in line.replace("! ", ". ").split(". ")]
    assert said.passages == len(passages)
    assert 0 < said.proven_passages <= said.identical_passages < said.passages


def test_a_lost_merge_is_seen(folder: Path, readers: Readers, tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((folder / "trimmed" / name).read_bytes())
    written = json.loads(file.read_text(encoding="utf-8"))
    del written["model"]["merges"][:20]
    file.write_text(json.dumps(written), encoding="utf-8")
    broken = Readers(readers.whole, load_tokenizer(tmp_path), readers.kept)
    with pytest.raises(StageError, match="which needs only kept tokens, as other tokens"):
        broken.compared(iter(documents(40)), documents=True)


def test_a_lost_byte_is_seen(folder: Path, readers: Readers, tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((folder / "trimmed" / name).read_bytes())
    written = json.loads(file.read_text(encoding="utf-8"))
    del written["model"]["vocab"]["Ć"]  # the byte 6
    file.write_text(json.dumps(written), encoding="utf-8")
    broken = Readers(readers.whole, load_tokenizer(tmp_path), readers.kept)
    with pytest.raises(StageError, match="as another text"):
        broken.compared(iter(["a\x06b"]), documents=True)


def test_bytes_special_tokens_and_the_chat_template_are_always_kept(folder: Path, readers: Readers) -> None:
    whole, _, kept = trimmed(folder, size=len(trimmed(folder, min_count=10**6)[2]))
    words = {token for token, i in whole.get_vocab().items() if i in set(kept.tolist())}
    assert {*SPECIAL} <= words
    assert sum(len(word) == 1 for word in words) == 256
    talk = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]
    rendered = whole.apply_chat_template(talk, tokenize=False, add_generation_prompt=True)
    assert {"user", "assistant"} - words, "a role is no single token of this tokenizer"
    said = Readers(*trimmed(folder, min_count=10**6)).compared(iter([rendered]), documents=False)
    assert (said.proven_passages, said.identical_passages) == (1, 1)
    assert not of_template(whole) <= set(
        chosen(VocabularyOptions(min_count=10**6), whole, {}, np.zeros(VOCAB)).tolist()
    )
    trimmed(folder, size=320)  # as it was


ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {},
    "padded": {"vocab_size": VOCAB + 32},
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_trimmed_model_computes_the_same_on_kept_tokens(name: str, tmp_path: Path) -> None:
    whole = write_decoder(tmp_path, "llama" if name == "padded" else name, **ARCHITECTURES[name])
    _, own, kept = trimmed(tmp_path, size=300)
    made = trimmed_decoder(tmp_path, kept, own, tmp_path / "made")
    small = load_decoder(made)
    ids = torch.from_numpy(np.random.default_rng(0).integers(0, len(kept), (2, 9)))
    with torch.no_grad():
        said = small.model(ids).logits
        expected = whole(torch.from_numpy(kept)[ids]).logits[..., kept]
        other = whole(ids).logits[..., kept]
    torch.testing.assert_close(said, expected, rtol=1e-5, atol=1e-5)
    assert (said - other).abs().max() > 0.1, "the check can fail"
    assert small.vocab_size == len(kept) == read_config(made)["vocab_size"]
    assert len(load_tokenizer(made)) == len(kept)
    assert load_tokenizer(made).chat_template == load_tokenizer(tmp_path).chat_template


def test_a_bias_of_the_head_is_trimmed_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    shape = {"vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1,
             "num_attention_heads": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}  # fmt: skip
    whole = transformers.PhiForCausalLM(transformers.PhiConfig(**shape)).eval()
    torch.nn.init.normal_(whole.lm_head.bias)
    whole.save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    _, own, kept = trimmed(tmp_path, size=300)
    small = load_decoder(trimmed_decoder(tmp_path, kept, own, tmp_path / "made"))
    assert torch.equal(small.model.lm_head.bias, whole.lm_head.bias[torch.from_numpy(kept)])


def test_a_row_for_each_token_in_another_place_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_decoder(tmp_path, "qwen2")
    _, own, kept = trimmed(tmp_path, size=300)
    monkeypatch.setattr(transformers.Qwen2ForCausalLM, "get_output_embeddings", lambda _: None)
    with pytest.raises(ModelError, match="Qwen2ForCausalLM has a row for each token elsewhere than in its table"):
        trimmed_decoder(tmp_path, kept, own, tmp_path / "made")


def test_every_id_in_the_configurations_is_that_of_the_kept_token(tmp_path: Path) -> None:
    model = write_decoder(tmp_path, eos_token_id=2, bos_token_id=1)
    model.generation_config.eos_token_id = [2, 340]
    model.generation_config.suppress_tokens = [0, 341]
    model.save_pretrained(tmp_path)
    whole, own, kept = trimmed(tmp_path, size=300)
    assert {2, 340} <= set(kept.tolist()), "what ends an answer is kept"
    made = load_decoder(trimmed_decoder(tmp_path, kept, own, tmp_path / "made")).model
    new = {int(old): i for i, old in enumerate(kept)}
    assert made.generation_config.eos_token_id == [new[2], new[340]]
    assert made.generation_config.suppress_tokens == [new[i] for i in (0, 341) if i in new]
    assert (made.config.pad_token_id, made.config.bos_token_id) == (new[0], new[1])
    assert own.convert_ids_to_tokens(new[340]) == whole.convert_ids_to_tokens(340)


def test_tokens_that_are_named_otherwise_are_refused(tmp_path: Path) -> None:
    model = write_decoder(tmp_path)
    model.generation_config.bad_words_ids = [[300]]
    model.save_pretrained(tmp_path)
    _, own, kept = trimmed(tmp_path, size=300)
    with pytest.raises(ModelError, match="names tokens in bad_words_ids"):
        trimmed_decoder(tmp_path, kept, own, tmp_path / "made")


def test_a_dropped_token_begins_with_what_is_read_first_of_it(folder: Path, readers: Readers) -> None:
    written = written_of(readers.whole)
    found = first_pieces(written, written_of(readers.own), readers.kept)
    assert np.array_equal(found[readers.kept], np.arange(len(readers.kept)))
    dropped = [i for i in range(VOCAB) if i not in set(readers.kept.tolist())]
    assert dropped
    for token in dropped:
        text = readers.whole.decode([token])
        assert found[token] == readers.own(text)["input_ids"][0]
    assert any(len(readers.own.convert_ids_to_tokens(int(found[token]))) > 1 for token in dropped)


def test_a_tokenizer_of_words_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="trimmed where its tokenizer is plain BPE"):
        written_of(write_kind("wordpiece", tmp_path))
    with pytest.raises(ModelError, match="trimmed where its tokenizer is plain BPE"):
        written_of(write_kind("suffixed", tmp_path))


@pytest.mark.parametrize("text", [text for text in (*ODD_TEXTS, *LEARNED[:5]) if "\ufeff" not in text])
def test_tokens_add_up_to_the_bytes_of_a_text(readers: Readers, text: str) -> None:
    lengths = byte_lengths(readers.whole)
    ids = readers.whole(text, add_special_tokens=False)["input_ids"]
    assert lengths[ids].sum() == len(text.encode())
