"""llama.cpp's library, loaded once and quiet, and what both of its runtimes do with a file.

Source: https://github.com/ggml-org/llama.cpp/blob/master/include/llama.h
"""

import ctypes
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.errors import ModelError

LOG_LEVEL_ERROR = 4  # ggml.h
AMX = b"AMX_INT8 = 1"  # in what llama.cpp says of itself


@cache
def library() -> Any:
    """Return the bindings, quiet but for errors.

    Their own way to be quiet takes warnings for errors, and errors for what may be left out.

    Raises:
        ModelError: they are not installed.
    """
    try:
        import llama_cpp
    except ImportError as error:
        raise ModelError(f"llama.cpp's bindings are missing ({error}); run: pip install 'edgedistill[gguf]'") from None
    llama_cpp.llama_log_set(_tell_errors(llama_cpp), None)
    llama_cpp.llama_backend_init()
    return llama_cpp


@cache  # a callback that is let go of would be called where nothing is
def _tell_errors(lib: Any) -> Any:
    """Return a function, for C to call, that writes error messages to the standard error stream."""

    def tell(level: int, text: bytes, _user_data: Any) -> None:
        if level == LOG_LEVEL_ERROR:
            sys.stderr.write(text.decode("utf-8", errors="replace"))

    return lib.llama_log_callback(tell)


def load_model(lib: Any, file: Path) -> Any:
    """Return the model of a file; its weights are mapped, as llama.cpp's own programs do.

    Where llama.cpp was compiled for AMX its kernels for it are left alone, and with them those that lay weights out
    anew: llama.cpp sets up the tiles once in a thread, and as soon as something else there gives them back, PyTorch for
    one, the next product of quantized weights is an illegal instruction, which ends the process.
    """
    if not file.is_file():
        raise ModelError(f"{file} is not there; name the .gguf file of an artifact")
    settings = lib.llama_model_default_params()
    settings.n_gpu_layers = 0
    settings.use_extra_bufts = AMX not in lib.llama_print_system_info()
    model = lib.llama_model_load_from_file(str(file).encode("utf-8"), settings)
    if not model:
        raise ModelError(f"{file} is not a model that llama.cpp can load; export it again, or name a newer llama.cpp")
    return model


def said(lib: Any, model: Any, key: str) -> str:
    """Return what a file's metadata says, numbers and true and false as words; empty where it says nothing."""
    text = ctypes.create_string_buffer(64)
    count = lib.llama_model_meta_val_str(model, key.encode("ascii"), text, len(text))
    if count >= len(text):  # cut
        text = ctypes.create_string_buffer(count + 1)
        lib.llama_model_meta_val_str(model, key.encode("ascii"), text, len(text))
    return text.value.decode("utf-8") if count >= 0 else ""


def versions() -> dict[str, str]:
    """Return what decides the numbers of both runtimes; the bindings are imported by it."""
    from importlib.metadata import version

    lib = library()
    features = lib.llama_print_system_info().decode("utf-8").strip(" |\n")
    return {"llama-cpp-python": version("llama-cpp-python"), "llama.cpp": features, "numpy": np.__version__}
