"""A tiny BERT of sentence vectors with a WordPiece tokenizer, in the layout of sentence-transformers."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from tiny_tokenizers import texts
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ROWS, POSITIONS, MAX_TOKENS = 400, 48, 40
LETTERS = "abcdefghijklmnopqrstuvwxyzABZäéñß0123456789.,;:!?'\"()[]{}<>|_=*#@&/%$€+-👩😀你好世界こんمرحпривет🇩½²"


@cache
def trained(*, lowercase: bool = True) -> str:
    """Return a tokenizer.json whose pieces are syllables, and single characters of many kinds."""
    made = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=100))
    made.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        show_progress=False, vocab_size=ROWS - 30, special_tokens=list(SPECIAL), initial_alphabet=list(LETTERS)
    )
    made.train_from_iterator([*texts(), *("user im start end word" for _ in range(9))], trainer)
    ends = [(token, made.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return str(made.to_str())


def write_tokenizer(folder: Path, *, lowercase: bool = True, **settings: Any) -> None:
    """Write tokenizer.json and tokenizer_config.json."""
    (folder / "tokenizer.json").write_text(trained(lowercase=lowercase), encoding="utf-8")
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    said = {**names, "model_max_length": MAX_TOKENS, "tokenizer_class": "BertTokenizer", "do_lower_case": lowercase}
    (folder / "tokenizer_config.json").write_text(json.dumps(said | settings), encoding="utf-8")


def write_sentence_encoder(
    folder: Path,
    pooling: Any = "mean",
    *,
    normalize: bool = True,
    lowercase: bool = True,
    biases: float = 0.1,
    **changes: Any,
) -> Any:
    """Write a sentence embedder with random weights, and return it."""
    from transformers import BertConfig, BertModel

    from edgedistill.models.embedder import TransformerEmbedder

    torch.manual_seed(0)
    shape: dict[str, Any] = {
        "vocab_size": ROWS, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 128, "max_position_embeddings": POSITIONS, "initializer_range": 0.2,
    }  # fmt: skip
    encoder: Any = BertModel(BertConfig(**shape | changes), add_pooling_layer=False)
    for part in encoder.modules():
        if isinstance(part, torch.nn.LayerNorm | torch.nn.Linear):  # as trained: no bias is 0, no norm is 1
            torch.nn.init.normal_(part.bias, std=biases)
    model = TransformerEmbedder(encoder, pooling, normalize=normalize).eval()
    folder.mkdir(parents=True, exist_ok=True)
    model.save(folder)
    write_tokenizer(folder, lowercase=lowercase)
    return model
