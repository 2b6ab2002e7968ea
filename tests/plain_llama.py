"""llama.cpp as its own bindings open a file, to compare with."""

from pathlib import Path
from typing import Any
from unittest import mock


def opened(file: Path, **how: Any) -> Any:
    """Return the model of a file, on one thread.

    Kernels for AMX stay off, as in `edgedistill/runtimes/_llama.py`, which tells why.
    """
    from llama_cpp import Llama, llama_cpp

    settings = llama_cpp.llama_model_default_params()
    settings.use_extra_bufts = False
    with mock.patch.object(llama_cpp, "llama_model_default_params", return_value=settings):
        return Llama(str(file), n_threads=1, n_threads_batch=1, verbose=False, n_gpu_layers=0, **how)
