"""GGUF files of BERT sentence encoders, for llama.cpp's embedding mode: written, and read back as they were decided.

The file says how token vectors become a sentence's vector. llama.cpp's own programs normalise what comes out unless
they are told not to; whether this model does is in `edgedistill.normalize`, as GGUF has no key for it.

llama.cpp computes the activation by another formula than BERT (the tanh form of GELU, from a table in half precision),
and has no other for this architecture: the vectors are near the checkpoint's, and not equal to them.

Sources: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; llama.cpp, src/models/bert.cpp;
Hendrycks, Gimpel 2016, arXiv:1606.08415, section 2 (both forms of GELU).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.errors import ModelError
from edgedistill.export.gguf_draft import drafted
from edgedistill.export.gguf_metadata import encodings
from edgedistill.export.gguf_wordpiece import add_word_pieces, read_word_pieces
from edgedistill.models import sentence_transformers
from edgedistill.models.ggml_tensors import FLOATS, GgmlTensor

ARCHITECTURE = "bert"
ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh")
OUTER = ("word_embeddings", "token_type_embeddings", "position_embeddings", "LayerNorm")
INNER = (
    "attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense",
    "attention.output.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm",
)  # fmt: skip
SUMMED = ("embeddings.token_type_embeddings.weight", "embeddings.position_embeddings.weight")
"""Tables that llama.cpp adds to F32 vectors, and wants as such."""


def refused(config: Mapping[str, Any]) -> list[str]:
    """Return why llama.cpp could not compute an encoder with this config.json; empty if it can."""
    found = []
    if config.get("model_type") != "bert" or not config.get("num_hidden_layers"):
        found.append("GGUF files are written of encoders of type 'bert' with one layer or more")
    if config.get("hidden_act", "gelu") not in ACTIVATIONS:
        found.append(f"hidden_act {config['hidden_act']!r} is none of {', '.join(ACTIVATIONS)}")
    if config.get("position_embedding_type", "absolute") != "absolute":
        found.append(f"position_embedding_type {config['position_embedding_type']!r} is not 'absolute'")
    if config.get("is_decoder"):
        found.append("is_decoder is true, and each token of an encoder sees all others")
    return found


def pooling_type(steps: sentence_transformers.Steps) -> Any:
    """Return gguf's word for how a folder pools.

    Raises:
        ModelError: llama.cpp does not pool so, or has no linear map behind it.
    """
    from gguf import PoolingType

    known = {"mean": PoolingType.MEAN, "cls": PoolingType.CLS}
    if steps.pooling not in known:
        raise ModelError(f"llama.cpp pools by {' or '.join(known)}, and this model by {steps.pooling}")
    if steps.dense:
        raise ModelError(
            "llama.cpp has no linear map behind a BERT's pooling; leave task.dimensions and truncations out"
        )
    return known[steps.pooling]


def encoder_tensors(model: Any) -> dict[str, GgmlTensor]:
    """Return the tensors of a sentence embedder's encoder, its matrices as F32 or, where it keeps them so, F16.

    Raises:
        ModelError: it is none of transformers' encoders, or some weights are neither float32 nor float16.
    """
    from edgedistill.models.embedder import TransformerEmbedder
    from edgedistill.models.weight_only_layers import Float16Linear

    if not isinstance(model, TransformerEmbedder):
        raise ModelError("GGUF files are written of sentence encoders with attention; a static one has none")
    turned = {f"{name}.weight" for name, part in model.model.named_modules() if isinstance(part, Float16Linear)}
    kinds = {np.dtype(kind): name for name, kind in FLOATS.items()}
    found = {}
    for name, tensor in model.model.state_dict().items():
        array = tensor.detach().numpy()
        array = np.ascontiguousarray(array.T if name in turned else array)
        if array.dtype not in kinds:
            raise ModelError(f"{name} is {array.dtype}, and GGUF files are written of float32 and float16")
        found[name] = GgmlTensor(kinds[array.dtype], array.shape, array)
    return found


def write_encoder(
    file: Path,
    folder: Path,
    config: Any,
    tensors: Mapping[str, GgmlTensor],
    *,
    file_type: str,
    facts: Mapping[str, str],
    licence: str | None = None,
) -> None:
    """Write a sentence encoder whole or not at all.

    Args:
        file: to be written.
        folder: with the tokenizer, and the steps after the encoder in the layout of sentence-transformers; its name
            is the model's.
        config: transformers' configuration of the encoder.
        tensors: under the checkpoint's names, its rows in its order; vectors are F32.
        file_type: what most of it is stored in: F32, F16, Q8_0, ...
        facts: our provenance; keys begin with `edgedistill.`
        licence: an SPDX identifier.

    Raises:
        ModelError: llama.cpp could not compute it or read texts for it, or the tensors are not those of the config.
    """
    if reasons := refused(config.to_dict()):
        raise ModelError(f"llama.cpp cannot compute {folder.name}: {'; '.join(reasons)}")
    steps = sentence_transformers.read(folder)
    pooling, pieces = pooling_type(steps), read_word_pieces(folder, config.vocab_size)
    stored = _laid_out(config, tensors)
    with drafted(file, ARCHITECTURE, stored) as writer:
        _add_general(writer, folder.name, licence, file_type)
        _add_sizes(writer, config)
        writer.add_causal_attention(False)
        writer.add_pooling_type(pooling)
        add_word_pieces(writer, pieces, config.type_vocab_size)
        for key, value in facts.items():
            writer.add_string(key, value)
        writer.add_bool("edgedistill.normalize", steps.normalize)
        writer.add_uint32("edgedistill.max_tokens", _longest(folder, config))


def read_encoder(file: Path) -> dict[str, GgmlTensor]:
    """Return a file's tensors under the checkpoint's names, every byte as it lies there.

    Raises:
        ModelError: it is no GGUF file, or has a tensor that such an encoder has not.
    """
    from gguf import GGUFReader

    try:
        reader = GGUFReader(file)
    except (OSError, ValueError) as error:
        raise ModelError(f"{file} cannot be read as a GGUF file: {error}") from error
    layers = int(reader.fields[f"{ARCHITECTURE}.block_count"].contents())
    names = {called: name for name, called in _names(layers).items()}
    if unknown := [one.name for one in reader.tensors if one.name not in names]:
        raise ModelError(f"{file} has a tensor {unknown[0]!r}, and a BERT has none such")
    found = {}
    for one in reader.tensors:
        kind, shape = one.tensor_type.name, tuple(int(n) for n in reversed(one.shape))
        stored = np.array(one.data)
        found[names[one.name]] = GgmlTensor(kind, shape, stored.reshape(shape) if kind in FLOATS else stored)
    return found


def differences(file: Path, tensors: Mapping[str, GgmlTensor]) -> list[str]:
    """Return the names of tensors that a file does not hold as they were decided; empty where it holds all."""
    read = read_encoder(file)
    decided = {name: _widened(name, one) for name, one in tensors.items()}
    wrong = [name for name in read if name not in decided]
    for name, one in decided.items():
        found = read.get(name)
        said = found is not None and (found.type, found.shape, found.data.tobytes())
        if said != (one.type, one.shape, one.data.tobytes()):
            wrong.append(name)
    return wrong


def _names(layers: int) -> dict[str, str]:
    """Return the checkpoint's name -> GGUF's, of every tensor."""
    import gguf

    known = gguf.get_tensor_name_map(gguf.MODEL_ARCH.BERT, layers)
    modules = [f"embeddings.{part}" for part in OUTER]
    modules += [f"encoder.layer.{i}.{part}" for i in range(layers) for part in INNER]
    found = {
        name: known.get_name(name, (".weight", ".bias")) for one in modules for name in (f"{one}.weight", f"{one}.bias")
    }
    return {name: called for name, called in found.items() if called is not None}


def _laid_out(config: Any, tensors: Mapping[str, GgmlTensor]) -> dict[str, GgmlTensor]:
    """Return tensors under GGUF's names, in the order of the model."""
    shapes = _shapes(config)
    if problems := [*_problems(shapes, tensors)]:
        more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise ModelError(f"the tensors are not those of config.json: {'; '.join(problems[:3])}{more}")
    names = _names(config.num_hidden_layers)
    return {names[name]: _widened(name, tensors[name]) for name in shapes}


def _widened(name: str, one: GgmlTensor) -> GgmlTensor:
    """Return a table that is summed as F32; half precision becomes single without a change of any number."""
    return GgmlTensor("F32", one.shape, one.floats()) if name in SUMMED and one.type == "F16" else one


def _shapes(config: Any) -> dict[str, tuple[int, ...]]:
    import torch
    from transformers import BertModel

    with torch.device("meta"):
        made: Any = BertModel(config, add_pooling_layer=False)
    return {name: tuple(one.shape) for name, one in made.state_dict().items()}


def _problems(shapes: Mapping[str, tuple[int, ...]], tensors: Mapping[str, GgmlTensor]) -> Iterator[str]:
    for name, shape in shapes.items():
        if name not in tensors:
            yield f"{name} is missing"
        elif tensors[name].shape != shape:
            yield f"{name} has shape {tensors[name].shape} instead of {shape}"
        elif tensors[name].type != "F32" and (len(shape) == 1 or (name in SUMMED and tensors[name].type != "F16")):
            yield f"{name} is {tensors[name].type}, and llama.cpp computes it in F32"
    yield from (f"{name} is unknown" for name in tensors if name not in shapes)


def _add_general(writer: Any, name: str, licence: str | None, file_type: str) -> None:
    import gguf

    if file_type not in encodings():
        raise ModelError(f"{file_type!r} is no file type of llama.cpp's; it has {', '.join(encodings())}")
    described = gguf.Metadata(
        name=name, size_label=gguf.size_label(*writer.get_total_parameter_count()), license=licence,
        quantized_by="edgedistill", tags=["sentence-similarity", "feature-extraction"],
    )  # fmt: skip
    writer.add_type(gguf.GGUFType.MODEL)
    described.set_gguf_meta_model(writer)
    writer.add_file_type(encodings()[file_type])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _add_sizes(writer: Any, config: Any) -> None:
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    writer.add_layer_norm_eps(config.layer_norm_eps)


def _longest(folder: Path, config: Any) -> int:
    """Return the most tokens that a text is cut to: what the tokenizer's settings say, or all positions."""
    import json

    said = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8")).get("model_max_length")
    positions = int(config.max_position_embeddings)
    return min(int(said), positions) if said is not None else positions
