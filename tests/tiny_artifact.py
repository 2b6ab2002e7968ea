"""Tiny but real models, made in code: a BERT checkpoint, and ONNX files laid out as an artifact."""

import json
from pathlib import Path

import numpy as np

LABELS = ("negative", "positive")
VOCAB = 128
MAX_TOKENS = 32
WORDS = ("good", "bad", "film", "plot", "a", "the", "very", "not", *(f"w{i}" for i in range(VOCAB - 12)))


def texts(count: int, seed: int = 0) -> list[str]:
    """Return different texts of 1 to 40 words."""
    random = np.random.default_rng(seed)
    return [f"{' '.join(random.choice(WORDS, size=random.integers(1, 40)))} w{i % 100}" for i in range(count)]


def write_tokenizer(root: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json: one id for each word of WORDS."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing

    vocab = {word: i for i, word in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS))}
    tokenizer = Tokenizer(WordLevel(vocab, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", vocab["[CLS]"]), ("[SEP]", vocab["[SEP]"])]
    )
    root.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(root / "tokenizer.json"))
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    settings = {**names, "model_max_length": MAX_TOKENS, "tokenizer_class": "PreTrainedTokenizerFast"}
    (root / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def write_checkpoint(root: Path, seed: int = 0, labels: tuple[str, ...] = LABELS) -> None:
    """Write a BERT classifier of 2 layers with random weights, and its tokenizer."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=VOCAB,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        max_position_embeddings=64,
        initializer_range=0.2,
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
    )
    BertForSequenceClassification(config).save_pretrained(root)
    write_tokenizer(root)


def write_onnx(root: Path, file: str, *, int8: bool = False, seed: int = 0, labels: tuple[str, ...] = LABELS) -> Path:
    """Write an artifact whose model is the mean of token vectors times a matrix, in float32 or in int8."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(seed)
    table = random.normal(size=(VOCAB, 16)).astype(np.float32)
    head = random.normal(size=(16, len(labels))).astype(np.float32)
    weights = {"table": table, "head": head, "axis": np.array([1], np.int64), "last": np.array([2], np.int64)}
    node = helper.make_node
    pool = [
        node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        node("Unsqueeze", ["mask", "last"], ["mask_3d"]),
        node("Mul", ["vectors", "mask_3d"], ["counted"]),
        node("ReduceSum", ["counted", "axis"], ["sum"], keepdims=0),
        node("ReduceSum", ["mask", "axis"], ["length"], keepdims=1),
        node("Div", ["sum", "length"], ["mean"]),
    ]
    if int8:
        weights |= {name: np.clip(np.rint(weights[name] * 32), -127, 127).astype(np.int8) for name in ("table", "head")}
        weights |= {"scale": np.float32(1 / 32), "zero": np.int8(0)}
        nodes = [
            node("Gather", ["table", "input_ids"], ["codes"]),
            node("DequantizeLinear", ["codes", "scale"], ["vectors"]),
            *pool,
            node("DynamicQuantizeLinear", ["mean"], ["mean_codes", "mean_scale", "mean_zero"]),
            node("MatMulInteger", ["mean_codes", "head", "mean_zero", "zero"], ["products"]),
            node("Cast", ["products"], ["products_float"], to=TensorProto.FLOAT),
            node("Mul", ["mean_scale", "scale"], ["both_scales"]),
            node("Mul", ["products_float", "both_scales"], ["logits"]),
        ]
    else:
        nodes = [
            node("Gather", ["table", "input_ids"], ["vectors"]),
            *pool,
            node("MatMul", ["mean", "head"], ["logits"]),
        ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["b", "t"])
            for name in ("input_ids", "attention_mask")
        ],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["b", len(labels)])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    write_tokenizer(root)
    (root / "config.json").write_text(json.dumps({"id2label": dict(enumerate(labels))}), encoding="utf-8")
    written = root / file
    written.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, written)
    return written
