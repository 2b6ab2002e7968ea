"""GGUF files of decoders: written as llama.cpp's own converter lays them out, and read back as the checkpoint has them.

Export changes no number: every tensor comes with its bytes decided, and only names, the order of rows and gemma's norms
(see gguf_layout.py) are another way of saying the same.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (version 3).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.errors import ModelError
from edgedistill.export.gguf_architecture import add_architecture, read_decoder
from edgedistill.export.gguf_draft import drafted
from edgedistill.export.gguf_layout import is_shifted, laid_out, restored
from edgedistill.export.gguf_metadata import About, add_general, add_numbers, add_provenance
from edgedistill.export.gguf_tokenizer import add_vocabulary, read_vocabulary
from edgedistill.models.ggml_tensors import FLOATS, GgmlTensor


def write_gguf(
    file: Path,
    checkpoint: Path,
    tensors: Mapping[str, GgmlTensor],
    *,
    name: str,
    version: str,
    licence: str,
    file_type: str,
    facts: Mapping[str, str],
    importance: Mapping[str, str] | None,
    about: About | None = None,
) -> None:
    """Write a decoder whole or not at all.

    Args:
        file: what `gguf_metadata.file_name` called it.
        checkpoint: folder with config.json, tokenizer.json and, where there is one, the chat template.
        tensors: under the checkpoint's names, its rows in its order; vectors are F32.
        name: the model's, for people.
        version: such as "1.0".
        licence: an SPDX identifier, in small letters as on the hub.
        file_type: what most of it is stored in: F32, F16, Q8_0, Q4_K_M, ...
        facts: our provenance; written as `edgedistill.<key>`.
        importance: what an importance matrix was computed on, see `gguf_metadata.add_numbers`; None: there was none.
        about: what it was made from, its languages and tags.

    Raises:
        ModelError: llama.cpp could not compute or read it as transformers does, or tensors do not fit config.json.
    """
    decoder = read_decoder(checkpoint)
    vocabulary = read_vocabulary(checkpoint, decoder.config.vocab_size)
    stored = laid_out(decoder, tensors)
    with drafted(file, decoder.architecture, stored) as writer:
        add_general(writer, checkpoint, name=name, version=version, licence=licence, about=about or About())
        add_architecture(writer, decoder)
        add_numbers(writer, file_type, importance)
        add_vocabulary(writer, vocabulary)
        add_provenance(writer, facts)


def read_tensors(file: Path) -> dict[str, GgmlTensor]:
    """Return a file's tensors under the checkpoint's names, its rows in its order.

    Every byte is as it was given to `write_gguf`, but for gemma's norms (see `gguf_layout`). A head that was left out
    because it is the embedding's twin does not come back.

    Raises:
        ModelError: it is no GGUF file, or of an architecture that is not written here.
    """
    reader = _opened(file)

    def said(key: str) -> int:
        return int(reader.fields[key].contents())

    architecture = str(reader.fields["general.architecture"].contents())
    heads = (said(f"{architecture}.attention.head_count"), said(f"{architecture}.attention.head_count_kv"))
    stored = {one.name: _tensor(one) for one in reader.tensors}
    return restored(architecture, said(f"{architecture}.block_count"), heads, stored)


def differences(file: Path, tensors: Mapping[str, GgmlTensor]) -> list[str]:
    """Return the names of tensors that a file does not hold as they were decided; empty where it holds all.

    Types, shapes and bytes must be equal; gemma's norms to the rounding of the 1 that is added to them. A head may be
    missing where its twin, the embedding, is there.
    """
    read = read_tensors(file)
    architecture = str(_opened(file).fields["general.architecture"].contents())
    twins = {"lm_head.weight": "model.embed_tokens.weight"}
    wrong = [name for name in read if name not in tensors]
    for name, decided in tensors.items():
        found = read.get(name, read.get(twins.get(name, name)))
        if found is None or not _same(decided, found, rounded=is_shifted(architecture, name)):
            wrong.append(name)
    return wrong


def _same(one: GgmlTensor, other: GgmlTensor, *, rounded: bool) -> bool:
    if (one.type, one.shape) != (other.type, other.shape):
        return False
    if rounded:
        slack = np.spacing(np.abs(one.data + np.float32(1)))
        return bool((np.abs(one.data - other.data) <= slack).all())
    return one.data.tobytes() == other.data.tobytes()


def _opened(file: Path) -> Any:
    from gguf import GGUFReader

    try:
        return GGUFReader(file)
    except (OSError, ValueError) as error:
        raise ModelError(f"{file} cannot be read as a GGUF file: {error}") from error


def _tensor(one: Any) -> GgmlTensor:
    """Return a reader's tensor; ggml counts dimensions from the innermost."""
    kind, shape = one.tensor_type.name, tuple(int(n) for n in reversed(one.shape))
    stored = np.array(one.data)
    return GgmlTensor(kind, shape, stored.reshape(shape) if kind in FLOATS else stored)
