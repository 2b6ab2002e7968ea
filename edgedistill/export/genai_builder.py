"""A checkpoint as a folder of onnxruntime-genai, by its own model builder: the graph, float32, and all settings.

The builder knows the architectures, fuses what onnxruntime has kernels for, and writes genai_config.json. It runs in a
process of its own: it prints, and its modules have names such as `quantization` that would be anybody's.

Source: https://github.com/microsoft/onnxruntime-genai/tree/main/src/python/py/models
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from edgedistill.errors import StageError
from edgedistill.export.genai_tokenizer import spelled_out

BUILDER = "onnxruntime_genai.models.builder"
MODEL, DATA, SETTINGS = "model.onnx", "model.onnx.data", "genai_config.json"
OF_THIS_MACHINE = ("is_local", "local_files_only")  # how it was loaded here; transformers writes that down, too
QUIET = {"ORT_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}


def build(checkpoint: Path, folder: Path) -> Path:
    """Write model.onnx, model.onnx.data, genai_config.json, tokenizer and chat template; return the folder.

    Args:
        checkpoint: with config.json, safetensors and tokenizer; nothing is fetched.
        folder: made where it is missing.

    Raises:
        StageError: the builder is not installed, or does not know the architecture.
    """
    with tempfile.TemporaryDirectory() as cache:
        command = [
            sys.executable, "-m", BUILDER, "-i", str(checkpoint.absolute()),
            "-o", str(folder.absolute()), "-p", "fp32", "-e", "cpu", "-c", cache, "--extra_options", "hf_token=false",
        ]  # fmt: skip
        ended = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **QUIET})
    if ended.returncode or not (folder / SETTINGS).exists():
        said = ended.stderr.strip().splitlines() or ["it said nothing"]
        if "No module named" in said[-1]:
            raise StageError(f"{said[-1]}; run: pip install 'edgedistill[genai]'")
        raise StageError(f"onnxruntime-genai's model builder could not build {checkpoint.name}: {said[-1][:300]}")
    _forget_this_machine(folder / "tokenizer_config.json")
    tokenizer = folder / "tokenizer.json"
    if tokenizer.exists():
        tokenizer.write_text(spelled_out(tokenizer.read_text(encoding="utf-8")), encoding="utf-8")
    return folder


def _forget_this_machine(file: Path) -> None:
    said = json.loads(file.read_text(encoding="utf-8"))
    kept = {key: value for key, value in said.items() if key not in OF_THIS_MACHINE}
    file.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
