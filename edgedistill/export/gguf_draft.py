"""A GGUF file whole or not at all: written beside its place, and moved there once it is on the disk."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.models.ggml_tensors import GgmlTensor


@contextmanager
def drafted(file: Path, architecture: str, stored: Mapping[str, GgmlTensor]) -> Iterator[Any]:
    """Give a gguf.GGUFWriter that holds the tensors, for keys to be added; the file is there where nothing is raised.

    Args:
        file: to be written.
        architecture: in llama.cpp's words.
        stored: under llama.cpp's names, as it lays them out.
    """
    from gguf import GGMLQuantizationType, GGUFWriter

    draft = file.with_name(f"{file.name}.draft")
    writer = GGUFWriter(draft, architecture)
    try:
        for called, one in stored.items():
            writer.add_tensor(called, np.ascontiguousarray(one.data), raw_dtype=GGMLQuantizationType[one.type])
        yield writer
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        with draft.open("rb+") as written:
            os.fsync(written.fileno())
        draft.replace(file)
    finally:
        writer.close()
        draft.unlink(missing_ok=True)
