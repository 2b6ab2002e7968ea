"""A causal language model is loaded whole or not at all, sees nothing of what follows, and nothing of padding."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_models_load import drop, edit
from tiny_decoders import ARCHITECTURES, MAX_TOKENS, SPECIAL, VOCAB, documents, model_of, write_decoder, write_gguf
from tiny_models import write_model

from edgedistill.errors import ModelError
from edgedistill.models.decoder import Decoder, load_decoder
from edgedistill.models.load import load_tokenizer

IDS = torch.randint(3, VOCAB, (3, 9), generator=torch.Generator().manual_seed(0))
MASK = torch.tensor([[1] * 9, [1] * 5 + [0] * 4, [1] + [0] * 8])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_decoder_computes_what_its_own_library_computes_and_comes_back(architecture: str, tmp_path: Path) -> None:
    whole = write_decoder(tmp_path / "a", architecture)
    decoder = load_decoder(tmp_path / "a")
    with torch.no_grad():
        logits = decoder(IDS, torch.ones_like(IDS))
        assert torch.allclose(logits, whole(input_ids=IDS).logits, atol=1e-4)
        assert logits.shape == (3, 9, VOCAB)
        assert logits.dtype == torch.float32
        assert logits.std() > 0.1
        decoder.save(tmp_path / "b")
        assert torch.equal(load_decoder(tmp_path / "b")(IDS, MASK), decoder(IDS, MASK))
    assert decoder.vocab_size == decoder.width == VOCAB
    assert not decoder.training


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_half_precision_is_read_as_float32(precision: torch.dtype, tmp_path: Path) -> None:
    half = write_decoder(tmp_path).to(precision)
    half.save_pretrained(tmp_path)
    decoder = load_decoder(tmp_path)
    for name, weights in half.state_dict().items():
        assert torch.equal(weights.float(), decoder.model.state_dict()[name]), name


def padded_alike(decoder: Any) -> bool:
    """Whether each row of a right-padded batch has the logits that it has alone, whatever stands at the padding."""
    with torch.no_grad():
        for padding in (0, 7):
            batch = decoder(IDS * MASK + padding * (1 - MASK), MASK)
            for row in range(3):
                length = int(MASK[row].sum())
                alone = decoder(IDS[row : row + 1, :length], MASK[row : row + 1, :length])
                if not torch.allclose(batch[row, :length], alone[0], atol=1e-4):
                    return False
    return True


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("attention", ["eager", "sdpa", None])
def test_padding_changes_no_logit(architecture: str, attention: str | None, tmp_path: Path) -> None:
    write_decoder(tmp_path, architecture)
    assert padded_alike(load_decoder(tmp_path, attention))


def test_a_decoder_that_reads_its_padding_is_seen(tmp_path: Path) -> None:
    write_decoder(tmp_path)
    decoder = load_decoder(tmp_path)

    def mirrored(ids: Any, mask: Any) -> Any:  # reads from the right, where the padding is
        return decoder(ids.flip(1), mask.flip(1))

    assert not padded_alike(mirrored)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_no_token_sees_a_later_one(architecture: str, tmp_path: Path) -> None:
    write_decoder(tmp_path, architecture)
    decoder = load_decoder(tmp_path)
    changed = IDS.clone()
    changed[:, 5:] = (changed[:, 5:] + 1) % VOCAB
    with torch.no_grad():
        before, after = decoder(IDS, torch.ones_like(IDS)), decoder(changed, torch.ones_like(IDS))
    assert torch.allclose(before[:, :5], after[:, :5], atol=1e-5)
    assert not torch.allclose(before[:, 5:], after[:, 5:], atol=0.1)


def test_a_model_that_takes_no_positions_is_called_without(tmp_path: Path) -> None:
    from transformers import BloomConfig, BloomForCausalLM

    torch.manual_seed(0)
    BloomForCausalLM(BloomConfig(vocab_size=VOCAB, hidden_size=32, n_layer=2, n_head=2)).save_pretrained(tmp_path)
    assert padded_alike(load_decoder(tmp_path))


def test_what_says_no_next_token_is_refused(tmp_path: Path) -> None:
    write_model(tmp_path)
    with pytest.raises(ModelError, match="is a BertForSequenceClassification, and a causal language model is needed"):
        load_decoder(tmp_path)
    edit(tmp_path / "config.json", architectures=None)
    with pytest.raises(ModelError, match="names no architecture"):
        load_decoder(tmp_path)


def test_missing_and_false_weights_are_told(tmp_path: Path) -> None:
    write_decoder(tmp_path)
    drop(tmp_path, "layers.1.mlp.up_proj")
    with pytest.raises(ModelError, match=r"lacks 1 weights .* such as model\.layers\.1\.mlp\.up_proj\.weight"):
        load_decoder(tmp_path)
    model = model_of()
    model.model.norm.weight.data[3] = float("nan")
    Decoder(model).save(tmp_path)
    with pytest.raises(ModelError, match=r"1 weights of model\.norm\.weight are NaN"):
        load_decoder(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(ModelError, match="cannot be loaded as a causal language model") as caught:
        load_decoder(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("pre", ["smollm", "qwen2"])
def test_the_tokenizer_reads_every_text_and_knows_turns(pre: str, tmp_path: Path) -> None:
    write_decoder(tmp_path, pre=pre)
    tokenizer = load_tokenizer(tmp_path)
    assert len(tokenizer) == VOCAB
    assert tokenizer.model_max_length == MAX_TOKENS
    for text in (*documents(20), "Füße 12 345\t\n  ☃ \x07"):
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.decode(ids) == text
        assert not set(ids) & {0, 1, 2}
    assert len(tokenizer("the river 12")["input_ids"]) < 8, "words are merged, digits are not"
    turns = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    assert turns == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert [tokenizer.convert_tokens_to_ids(token) for token in SPECIAL] == [0, 1, 2]
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 2)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_tiny_gguf_holds_the_checkpoint(architecture: str, tmp_path: Path) -> None:
    whole = write_decoder(tmp_path / "a", architecture)
    write_gguf(tmp_path / "a", tmp_path / "tiny.gguf")
    read = read_by_transformers(tmp_path)
    with torch.no_grad():
        assert torch.equal(read(IDS).logits, whole(IDS).logits)


def read_by_transformers(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM, GgufConfig

    return AutoModelForCausalLM.from_pretrained(
        folder, gguf_file="tiny.gguf", quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
    ).eval()


def test_a_row_longer_than_a_micro_batch_is_said_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("llama_cpp", reason="runs what was written; pip install 'edgedistill[gguf]'")
    from edgedistill.runtimes import llama_cpp

    write_decoder(tmp_path)
    file, ids = write_gguf(tmp_path, tmp_path / "model.gguf"), list(range(3, 43))
    whole = llama_cpp.load(tmp_path, file.name, threads=1, context_tokens=64, exact=True).logits(ids)
    monkeypatch.setattr(llama_cpp, "ROWS_AT_ONCE", 16)
    cut = llama_cpp.load(tmp_path, file.name, threads=1, context_tokens=64, exact=True)
    some = [1, 15, 16, 30, 39]
    assert np.allclose(cut.logits(ids), whole, atol=1e-3)
    assert np.allclose(cut.logits_at(ids, some), whole[some], atol=1e-3)
