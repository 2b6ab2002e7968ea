"""What a GGUF file says of itself besides the model: its name, licence and origin, how it was quantized and built.

Sources: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (general keys, naming convention);
llama.cpp, tools/quantize/quantize.cpp (quantize.imatrix keys).
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedistill.errors import ModelError

NAMING = re.compile(
    r"^(?P<BaseName>[A-Za-z0-9\s]*(?:(?:-(?:(?:[A-Za-z\s][A-Za-z0-9\s]*)|(?:[0-9\s]*)))*))"
    r"-(?:(?P<SizeLabel>(?:\d+x)?(?:\d+\.)?\d+[A-Za-z](?:-[A-Za-z]+(\d+\.)?\d+[A-Za-z]+)?)"
    r"(?:-(?P<FineTune>[A-Za-z0-9\s-]+))?)?-(?:(?P<Version>v\d+(?:\.\d+)*))"
    r"(?:-(?P<Encoding>(?!LoRA|vocab)[\w_]+))?(?:-(?P<Type>LoRA|vocab))?(?:-(?P<Shard>\d{5}-of-\d{5}))?\.gguf$"
)
"""The specification's own check of a file's name."""
VERSION = re.compile(r"v\d+(?:\.\d+)*")
SIZE = re.compile(r"\d+(?:\.\d+)?[KMBTkmbt]")
KEY = re.compile(r"[a-z0-9_]+(?:\.[a-z0-9_]+)*")
IMPORTANCE = {"file": str, "dataset": str, "entries_count": int, "chunks_count": int}
HUB = "https://huggingface.co/"


@dataclass(frozen=True)
class About:
    """What a file says of its model that neither the checkpoint nor its tensors tell."""

    base_models: tuple[str, ...] = ()  # what it was made from, as owner/name on the Hugging Face hub, or a plain name
    languages: tuple[str, ...] = ()  # ISO 639 codes
    tags: tuple[str, ...] = ("text-generation",)
    description: str | None = None
    quantized_by: str | None = "edgedistill"


def encodings() -> dict[str, int]:
    """Return llama.cpp's words for what most of a file is stored in -> their numbers: F32, F16, Q8_0, Q4_K_M, ..."""
    from gguf import LlamaFileType

    return {one.name.partition("_")[2]: int(one) for one in LlamaFileType if "_" in one.name and one.name != "GUESSED"}


def file_name(name: str, version: str, parameters: int, encoding: str) -> str:
    """Return a model's file name by GGUF's convention: BaseName-SizeLabel-Version-Encoding.gguf.

    What the convention does not let a BaseName hold becomes a dash; a size in it gives way to the model's own; a part
    that begins with a digit joins the one before it.

    Args:
        name: the model's, such as "smollm2-news".
        version: such as "v1.0"; the v may be left out.
        parameters: of the model.
        encoding: what most of it is stored in, such as Q4_K_M.

    Raises:
        ModelError: the name has no letter or digit, the version is no version, or the encoding is none of llama.cpp's.
    """
    from gguf import size_label

    said, size = version_label(version), size_label(parameters, 0, 0, 0)
    if encoding not in encodings():
        raise ModelError(f"{encoding!r} is no encoding of llama.cpp's; it has {', '.join(encodings())}")
    base = base_name(name)
    made = f"{base}-{size}-{said}-{encoding}.gguf"
    parts = NAMING.match(made)
    if parts is None or parts.group("BaseName", "SizeLabel", "Version", "Encoding") != (base, size, said, encoding):
        raise ModelError(f"{made!r} does not follow GGUF's naming convention; choose another name than {name!r}")
    return made


def base_name(name: str) -> str:
    """Return what the convention lets a name be; see `file_name`."""
    kept: list[str] = []
    for part in re.split(r"[^A-Za-z0-9.]+", name):
        bare = part.replace(".", "")
        if not bare or SIZE.fullmatch(part):
            continue
        if kept and bare[0].isdigit() and not bare.isdigit():
            kept[-1] += bare
        else:
            kept.append(bare)
    if not kept:
        raise ModelError(f"{name!r} has nothing that a GGUF file could be named by; give the model a name")
    return "-".join(kept)


def version_label(version: str) -> str:
    """Return a version as the convention writes it, such as v1.0.

    Raises:
        ModelError: it is no version.
    """
    said = version if version.startswith("v") else f"v{version}"
    if not VERSION.fullmatch(said):
        raise ModelError(f"version {version!r} is not one that a GGUF file may have; write it as 1.0 or v1.0")
    return said


def add_general(writer: Any, checkpoint: Path, *, name: str, version: str, licence: str, about: About) -> None:
    """Add all general keys but those of numbers to a gguf.GGUFWriter that has its tensors already.

    How to sample is taken from generation_config.json, as llama.cpp's converter does.
    """
    import gguf

    counts = writer.get_total_parameter_count()
    sampling = _generation(checkpoint)
    described = gguf.Metadata(
        name=name,
        basename=base_name(name),
        version=version_label(version),
        size_label=gguf.size_label(*counts),
        license=licence,
        description=about.description,
        quantized_by=about.quantized_by,
        tags=list(about.tags) or None,
        languages=list(about.languages) or None,
        base_models=[_origin(one) for one in about.base_models] or None,
        sampling_top_k=sampling.get("top_k"),
        sampling_top_p=sampling.get("top_p"),
        sampling_min_p=sampling.get("min_p"),
        sampling_temp=sampling.get("temperature"),
    )
    writer.add_type(gguf.GGUFType.MODEL)
    described.set_gguf_meta_model(writer)


def _origin(model: str) -> dict[str, str]:
    owner, slash, name = model.rpartition("/")
    return {"name": name, "organization": owner, "repo_url": HUB + model} if slash else {"name": name}


def _generation(checkpoint: Path) -> Mapping[str, Any]:
    file = checkpoint / "generation_config.json"
    said: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return said


def add_numbers(writer: Any, file_type: str, importance: Mapping[str, str] | None) -> None:
    """Add what the numbers are stored as, and what an importance matrix was computed on.

    Args:
        writer: a gguf.GGUFWriter.
        file_type: one of `encodings`.
        importance: file, dataset, entries_count, chunks_count, as far as known; None where no matrix was used.

    Raises:
        ModelError: a word is unknown.
    """
    import gguf

    known = encodings()
    if file_type not in known:
        raise ModelError(f"{file_type!r} is no file type of llama.cpp's; it has {', '.join(known)}")
    writer.add_file_type(known[file_type])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    for key, value in (importance or {}).items():
        if key not in IMPORTANCE:
            raise ModelError(f"quantize.imatrix has no key {key!r}; it has {', '.join(IMPORTANCE)}")
        if IMPORTANCE[key] is int:
            writer.add_uint32(f"quantize.imatrix.{key}", int(value))
        else:
            writer.add_string(f"quantize.imatrix.{key}", value)


def add_provenance(writer: Any, facts: Mapping[str, str]) -> None:
    """Add where a file comes from, under `edgedistill.`; keys are words of small letters, digits, _ and dots.

    Raises:
        ModelError: a key is not such a word.
    """
    for key, value in facts.items():
        if not KEY.fullmatch(key):
            raise ModelError(f"{key!r} cannot be a key of a GGUF file; use small letters, digits, _ and dots")
        writer.add_string(f"edgedistill.{key}", value)
