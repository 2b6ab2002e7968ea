"""Weights as blocks of codes and scales, chosen by ggml's own encoder.

A file of llama.cpp can be no better than its encoder, and that one is kept well elsewhere: so it is called, through the
shared library that llama-cpp-python ships, and not written again. It is deterministic, it encodes each row by itself,
and of the types below none needs the tables that `ggml_quantize_init` makes.

Source: https://github.com/ggml-org/ggml/blob/master/include/ggml.h, on ggml_quantize_chunk.
"""

import ctypes
from functools import cache
from typing import Any

import numpy as np

from edgedistill.errors import ModelError, QuantizationError
from edgedistill.models.ggml_tensors import FLOATS, GgmlTensor, row_bytes

UNWEIGHTED = ("F32", "F16", "Q8_0")
"""Types whose encoder has nothing to choose, and reads no importance."""
TYPES = (
    *UNWEIGHTED, "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS",
)  # fmt: skip


def encode(weight: np.ndarray, type_name: str, importance: np.ndarray | None = None) -> GgmlTensor:
    """Return `weight` as ggml stores it in this type.

    Args:
        weight: (rows, columns) float32; of F32 and F16 any shape.
        type_name: one of TYPES.
        importance: (columns,) float32, above 0; how much a squared error in that column matters. Where it is given,
            the encoder chooses scales and codes by it, except in UNWEIGHTED types.

    Raises:
        QuantizationError: the type is not known, the columns do not divide into its blocks, a number is not finite or
            beyond what the type reaches, or llama-cpp-python is not installed.
    """
    if type_name not in TYPES:
        raise QuantizationError(f"ggml type {type_name!r} is not known here; choose one of: {', '.join(TYPES)}")
    if not np.isfinite(weight).all():
        raise QuantizationError("the weight has a NaN or an infinity; did distillation diverge?")
    if type_name in FLOATS:
        return _as_floats(weight, type_name)
    if weight.ndim != 2:
        raise QuantizationError(f"{type_name} stores matrices, and this has the shape {weight.shape}; keep it F32")
    return GgmlTensor(type_name, weight.shape, _as_blocks(weight, type_name, _checked(importance, weight.shape[1])))


def _as_floats(weight: np.ndarray, type_name: str) -> GgmlTensor:
    with np.errstate(over="ignore"):
        floats = np.ascontiguousarray(weight.astype(FLOATS[type_name]))
    if not np.isfinite(floats).all():
        raise QuantizationError(
            f"a weight of {np.abs(weight).max():.3g} is beyond what F16 reaches, 65504; keep it F32"
        )
    return GgmlTensor(type_name, weight.shape, floats)


def _checked(importance: np.ndarray | None, columns: int) -> np.ndarray | None:
    if importance is None:
        return None
    if importance.shape != (columns,):
        raise QuantizationError(
            f"importance of shape {importance.shape} does not fit {columns} columns; measure it anew"
        )
    if not (np.isfinite(importance).all() and (importance > 0).all()):
        raise QuantizationError("importance must be finite and above 0 in every column; measure it anew")
    return np.ascontiguousarray(importance, dtype=np.float32)


def _as_blocks(weight: np.ndarray, type_name: str, importance: np.ndarray | None) -> np.ndarray:
    """Return the encoded rows, (rows, bytes of one row) uint8."""
    from gguf import GGMLQuantizationType

    rows, columns = weight.shape
    try:
        made = np.empty((rows, row_bytes(type_name, columns)), dtype=np.uint8)
    except ModelError as error:
        raise QuantizationError(f"{error}; choose another type") from None
    source, library, number = (
        np.ascontiguousarray(weight, dtype=np.float32),
        ggml(),
        GGMLQuantizationType[type_name],
    )
    weights = None if importance is None else importance.ctypes.data
    written = library.ggml_quantize_chunk(number, source.ctypes.data, made.ctypes.data, 0, rows, columns, weights)
    if written != made.nbytes:
        raise QuantizationError(
            f"ggml wrote {written} bytes of {type_name} where gguf expects {made.nbytes}; llama-cpp-python and gguf do "
            'not fit each other: pip install --upgrade "edgedistill[gguf]"'
        )
    if not library.ggml_validate_row_data(number, made.ctypes.data, made.nbytes):
        raise QuantizationError(
            f"a scale of {type_name} is beyond half precision, as the largest weight is {np.abs(weight).max():.3g}; "
            "keep it F32"
        )
    return made


@cache
def ggml() -> Any:
    """Return ggml's library, with the two functions declared that are called; Python's binding declares neither.

    Raises:
        QuantizationError: llama-cpp-python, which ships it, or gguf, which knows its types, is not installed.
    """
    try:
        import gguf  # noqa: F401  (read later on, and told here)
        from llama_cpp._ctypes_extensions import load_shared_library
        from llama_cpp._ggml import libggml_base_path
    except ImportError as error:
        raise QuantizationError(
            f"ggml's types are made by gguf and llama-cpp-python, and {error.name} is not installed; "
            'run: pip install "edgedistill[gguf]"'
        ) from None
    library = load_shared_library("ggml-base", libggml_base_path)
    pointer, whole = ctypes.c_void_p, ctypes.c_int64
    library.ggml_quantize_chunk.argtypes = [ctypes.c_int, pointer, pointer, whole, whole, whole, pointer]
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    library.ggml_validate_row_data.argtypes = [ctypes.c_int, pointer, ctypes.c_size_t]
    library.ggml_validate_row_data.restype = ctypes.c_bool
    return library
