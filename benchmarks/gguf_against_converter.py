"""Do our GGUF files say what llama.cpp's own converter says? `benchmarks/gguf_against_converter.py LLAMA CHECKPOINT`.

LLAMA is a source tree of llama.cpp, such as vendor/llama.cpp of the source distribution of llama-cpp-python; its
converter needs sentencepiece. CHECKPOINT is a folder of transformers with a byte-level BPE tokenizer that the converter
knows, such as SmolLM2's.

Compared are the checkpoint itself, and small random models of every architecture with its tokenizer, as transformers
reads it there (a Qwen cuts texts its own way), each in F32 and F16. The converter knows tokenizers by their ids on one
text, so that it has to be told the pre-tokenizer of a small model; of the checkpoint it finds its own:

* every tensor, bit for bit, with its type and shape,
* every key that both files have; keys that only one has are printed,
* the token ids that llama.cpp gives to odd texts from either file, and those of transformers; where these are told to
  bring texts into Unicode's NFC, which llama.cpp never does, only of texts that are in it.

A name is not compared: ours is the user's, the converter's is the folder's. Ends with 1 where anything else differs.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unicodedata import is_normalized

from edgedistill.export.gguf_file import write_gguf
from edgedistill.export.gguf_pre_tokenizers import probes
from edgedistill.models.ggml_tensors import FLOATS, GgmlTensor

OURS_TO_CHOOSE = {"general.name", "general.basename", "general.size_label", "general.finetune", "general.version"}
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
TEXTS = (
    "<|im_start|>user\nHow many are 12+34?<|im_end|>\n<|im_start|>assistant\n46<|im_end|>", "x" * 5000, "\x00\x01 \x7f",
    "def f(x):\n\treturn x ** 2  # 1234567\n", "👩‍👩‍👧 🏳️‍🌈 e\u0301 ﬁ ½ Ⅷ", "  1  22   333\n 4444", "I'LL we'Ve",
)  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 128}


TOLD = """
import sys
sys.path.insert(0, sys.argv.pop(1))
told = sys.argv.pop(1)
import convert_hf_to_gguf
from conversion.base import TextModel
TextModel.get_vocab_base_pre = lambda self, tokenizer: told
convert_hf_to_gguf.main()
"""
"""The converter, told a pre-tokenizer."""


def small_models(vocabulary: int) -> Iterator[tuple[str, Any]]:
    """Yield random models of every architecture, with its name."""
    import torch
    import transformers as t

    shape: dict[str, Any] = {
        "vocab_size": vocabulary, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512, "bos_token_id": 1,
        "eos_token_id": 2, "pad_token_id": 2,
    }  # fmt: skip
    gemma = {"head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 8}
    made: dict[str, Any] = {
        "llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(**shape, tie_word_embeddings=True)),
        "llama3": lambda: t.LlamaForCausalLM(t.LlamaConfig(**shape, rope_parameters=LLAMA3)),
        "llama-biased": lambda: t.LlamaForCausalLM(t.LlamaConfig(**shape, attention_bias=True, mlp_bias=True)),
        "mistral": lambda: t.MistralForCausalLM(t.MistralConfig(**shape, head_dim=16, sliding_window=None)),
        "qwen2": lambda: t.Qwen2ForCausalLM(t.Qwen2Config(**shape, rope_parameters=YARN)),
        "qwen3": lambda: t.Qwen3ForCausalLM(t.Qwen3Config(**shape, head_dim=16)),
        "gemma3": lambda: t.Gemma3ForCausalLM(t.Gemma3TextConfig(**shape | gemma)),
    }
    for name, model in made.items():
        torch.manual_seed(0)
        yield name, model()


def write_checkpoints(origin: Path, root: Path) -> Iterator[tuple[str, Path]]:
    """Yield the origin, and one folder a small model with the origin's tokenizer."""
    from transformers import AutoTokenizer

    from edgedistill.models.config_json import read_config

    yield "checkpoint", origin
    for name, model in small_models(int(read_config(origin)["vocab_size"])):
        folder = root / name
        model.save_pretrained(folder)
        for file in TOKENIZER_FILES:
            if (origin / file).exists():
                shutil.copy(origin / file, folder / file)
        if name != "gemma3":  # which would take it for a tokenizer of text
            AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
        yield name, folder


def ours(folder: Path, encoding: str, file: Path) -> None:
    """Write a checkpoint with our code; matrices are rounded to the encoding."""
    from safetensors.numpy import load_file

    tensors: dict[str, GgmlTensor] = {}
    for name, weight in load_file(folder / "model.safetensors").items():
        kind = "F32" if weight.ndim == 1 else encoding
        tensors[name] = GgmlTensor(kind, weight.shape, weight.astype(FLOATS[kind]))
    said = {"name": folder.name, "version": "1.0", "licence": "apache-2.0", "file_type": encoding}
    write_gguf(file, folder, tensors, facts={}, importance=None, **said)


def theirs(llama: Path, folder: Path, encoding: str, file: Path, told: str | None) -> None:
    """Write it with llama.cpp's converter; None: it finds the pre-tokenizer itself."""
    start = [llama / "convert_hf_to_gguf.py"] if told is None else ["-c", TOLD, llama, told]
    command = [sys.executable, *start, folder, "--outtype", encoding.lower(), "--outfile", file]
    ran = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    if ran.returncode:
        raise SystemExit(f"the converter fails on {folder.name}:\n{ran.stderr[-2000:]}")


def pre_tokenizer_in(file: Path) -> str:
    """Return the pre-tokenizer that a file names."""
    from gguf import GGUFReader

    return str(GGUFReader(file).fields["tokenizer.ggml.pre"].contents())


def compare(one: Path, other: Path) -> list[str]:
    """Return what differs between two files; what only one of them says is printed."""
    from gguf import GGUFReader

    files = [GGUFReader(file) for file in (one, other)]
    tensors = [{t.name: (t.tensor_type, tuple(t.shape), t.data) for t in file.tensors} for file in files]
    keys = [{key: f.contents() for key, f in file.fields.items() if not key.startswith("GGUF.")} for file in files]
    print(f"  only ours: {', '.join(sorted(keys[0].keys() - keys[1].keys()))}")
    print(f"  only the converter's: {', '.join(sorted(keys[1].keys() - keys[0].keys())) or 'nothing'}")
    both = (keys[0].keys() & keys[1].keys()) - OURS_TO_CHOOSE
    wrong = [f"key {key}: {keys[0][key]!r:.60} / {keys[1][key]!r:.60}" for key in both if keys[0][key] != keys[1][key]]
    wrong += [f"tensor {name} is in one file only" for name in tensors[0].keys() ^ tensors[1].keys()]
    for name in tensors[0].keys() & tensors[1].keys():
        (kind, shape, numbers), (kind_2, shape_2, numbers_2) = tensors[0][name], tensors[1][name]
        if (kind, shape) != (kind_2, shape_2) or numbers.tobytes() != numbers_2.tobytes():
            wrong.append(f"tensor {name}: {kind.name} {shape} / {kind_2.name} {shape_2}, other bytes")
    print(f"  {len(both)} keys and {len(tensors[0])} tensors compared")
    return wrong


def ids_of(file: Path, texts: tuple[str, ...]) -> list[list[int]]:
    """Return the token ids that llama.cpp gives to texts."""
    import llama_cpp

    runs = llama_cpp.Llama(str(file), vocab_only=True, n_threads=1, n_threads_batch=1, verbose=False)
    found = [runs.tokenize(text.encode(), add_bos=False, special=True) for text in texts]
    runs.close()
    return found


def compare_ids(one: Path, other: Path, folder: Path, texts: tuple[str, ...]) -> list[str]:
    """Return the texts whose ids differ, between both files or from those of transformers."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    read = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    wrong = []
    for text, a, b, c in zip(texts, ids_of(one, texts), ids_of(other, texts), read, strict=True):
        if a != b or (a != c and is_normalized("NFC", text)):
            wrong.append(f"text {text!r:.60}: ours {a[:8]}, the converter's {b[:8]}, transformers {c[:8]}")
    print(f"  {len(texts)} texts compared, {len(wrong)} read in other tokens")
    return wrong


def main() -> None:
    """Compare every checkpoint in both encodings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("llama", type=Path)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--texts", type=Path, help="a file whose lines are read too")
    parser.add_argument("--only", nargs="+", help="names of models: checkpoint, llama, llama3, qwen2, ...")
    given = parser.parse_args()
    lines = tuple(given.texts.read_text(encoding="utf-8").splitlines()) if given.texts else ()
    texts = (*TEXTS, *(text for text in probes() if text), *(line for line in lines if line))
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as root:
        for name, folder in write_checkpoints(given.checkpoint.absolute(), Path(root)):
            for encoding in ("F32", "F16") if not given.only or name in given.only else ():
                print(f"{name} {encoding}", flush=True)
                files = Path(root) / "ours.gguf", Path(root) / "theirs.gguf"
                ours(folder, encoding, files[0])
                told = None if name == "checkpoint" else pre_tokenizer_in(files[0])
                theirs(given.llama.absolute(), folder, encoding, files[1], told)
                found = compare(*files)
                if encoding == "F32" and name != "gemma3":
                    found += compare_ids(*files, folder, texts)
                wrong += found
                print("".join(f"  WRONG {one}\n" for one in found), end="")
    print(f"{len(wrong)} differences")
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
