"""Export: lay every model out as a folder that stock tools load, and prove that no number changed."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

from edgedistill import registry
from edgedistill.corpus.read import read
from edgedistill.errors import EdgeDistillError, StageError
from edgedistill.export import parity, transformers_js
from edgedistill.export.notice import write_notice
from edgedistill.files import clear, files_in, sha256_of
from edgedistill.models import sentence_transformers
from edgedistill.models.load import load_model, load_tokenizer
from edgedistill.models.quantized import load_quantized
from edgedistill.progress import bar
from edgedistill.section import FormatOptions
from edgedistill.student_values import Tokens
from edgedistill.values import Artifact, Corpus, QuantizedModel, Student, Teacher, Variant

FORMATS = "edgedistill.export.formats"
REAL_TEXTS = 64
OF_THIS_MACHINE = ("is_local", "local_files_only")  # how it was loaded here; transformers writes that down, too
CHECKPOINT_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")


def export(
    options: FormatOptions, *, title: str, licence: str, recipe_sha256: str, teacher: Teacher, corpus: Corpus,
    tokens: Tokens, student: Student, quantized: Mapping[str, QuantizedModel], folder: Path,
) -> Artifact:  # fmt: skip
    """Return the artifact: the float student, each quantized model, and apart from them the teacher to compare with.

    Args:
        title: name and version; names the folder to ship.
        tokens: may name a checkpoint of the student's own, whose licence counts, too.
        recipe_sha256: of the sections that decide the files; goes into each model file.
        quantized: method -> model.

    Raises:
        StageError: no exporter wrote a file that computes what its checkpoint computes; the text says why, of each.
    """
    layout: Any = registry.load(FORMATS, options.format)
    root, teacher_root = folder / title, folder / "teacher"
    clear(root)
    clear(teacher_root)
    start = student.path(student.checkpoint)
    _copy_shared(start, root)
    _copy_shared(teacher.path(teacher.checkpoint), teacher_root)
    write_notice(root, teacher, licence, tokens)
    texts = _real_texts(corpus)
    facts = {
        "edgedistill.recipe_sha256": recipe_sha256,
        "edgedistill.teacher_sha256": teacher.weights_sha256,
        "edgedistill.teacher_source": teacher.source,
        "edgedistill.student_sha256": student.weights_sha256,
        "edgedistill.labels": json.dumps(corpus.labels),
        "edgedistill.licence": licence,
    }
    stored = {name: model for name, model in quantized.items() if model.scheme in options.STORES}
    _require_a_file_each(layout, stored)
    with bar(f"exporting to {options.format}", len(stored) + 2, "files") as advance:
        variants = [_variant(layout, options, "float32", load_model(start).eval(), start, root, facts, texts)]
        advance(1)
        for method, decided in stored.items():
            model = load_quantized(start, decided.path(decided.weights))
            own = {**facts, "edgedistill.quantized_sha256": decided.weights_sha256, "edgedistill.method": method}
            own |= {"edgedistill.repaired": decided.repaired} if decided.repaired else {}
            variants.append(_variant(layout, options, decided.scheme, model, start, root, own, texts, method, decided))
            advance(1)
        taught_by, of_teacher = teacher.path(teacher.checkpoint), {**facts, "edgedistill.licence": teacher.licence}
        compared = _variant(
            layout, options, "float32", load_model(taught_by).eval(), taught_by, teacher_root, of_teacher, texts[:16]
        )
        advance(1)
    _add_settings(root / "config.json", layout.settings([variant.file for variant in variants]))
    inside = {root / variant.file for variant in variants}
    shared = {file.relative_to(root).as_posix(): sha256_of(file) for file in files_in(root) if file not in inside}
    return Artifact(
        format=options.format,
        runtime=layout.RUNTIME,
        root=title,
        variants=tuple(variants),
        shared_files=shared,
        shared_bytes=sum((root / name).stat().st_size for name in shared),
        teacher=compared,
        teacher_root="teacher",
        recipe_sha256=recipe_sha256,
    )


def _require_a_file_each(layout: Any, stored: Mapping[str, QuantizedModel]) -> None:
    """Refuse two models of one scheme, as where one method was repaired into what another one makes.

    Raises:
        StageError: both would be written to the same file.
    """
    methods: dict[str, str] = {}
    for method, model in stored.items():
        other = methods.setdefault(model.scheme, method)
        if other != method:
            raise StageError(
                f"{other} and {method} are both {model.scheme} and would both be {layout.file_for(model.scheme)}; "
                "leave one of them out of quantize, or set its repair to false"
            )


def _variant(
    layout: Any, options: FormatOptions, scheme: str, model: Any, checkpoint: Path, root: Path,
    facts: Mapping[str, str], texts: list[str], name: str = "float32", decided: QuantizedModel | None = None,
) -> Variant:  # fmt: skip
    """Write one model file with the first exporter whose file passes parity."""
    relative = layout.file_for(scheme)
    file, tokenizer = root / relative, load_tokenizer(checkpoint)
    refused: list[str] = []
    for exporter in layout.exporters(options):
        try:
            opset, ir_version = layout.write(model, file, exporter, options, facts)
            proof = parity.prove(
                model, tokenizer, runtime=layout.RUNTIME, root=root, file=str(relative), scheme=scheme,
                real_texts=texts, weights_bit_equal=_holds(layout.stored_arrays(file), model, decided),
                reads_alike=layout.reader(root), approximates=layout.APPROXIMATES,
            )  # fmt: skip
        except EdgeDistillError as error:
            refused.append(f"{exporter}: {error}")
        except OSError:  # a full disk is no fault of the exporter
            raise
        except Exception as error:  # an exporter may raise anything; the reason goes into the report or the error
            first_line = str(error).strip().partition("\n")[0]
            refused.append(f"{exporter}: {type(error).__name__}: {first_line[:200]}")
        else:
            return Variant(
                name=name, scheme=scheme, file=relative, sha256=sha256_of(file), size_bytes=file.stat().st_size,
                opset=opset, ir_version=ir_version, oldest_runtime=layout.oldest_runtime(file), exporter=exporter,
                exporters_refused=tuple(refused), parity=proof,
            )  # fmt: skip
    file.unlink(missing_ok=True)
    raise StageError(f"{relative} could not be written: {'; '.join(refused)}")


def _holds(arrays: set[bytes], model: Any, decided: QuantizedModel | None) -> bool:
    """Whether the file holds every stored number: codes and scales as they are, float matrices perhaps turned."""
    if decided is not None:
        stored = load_file(decided.path(decided.weights))
        return all(tensor.numpy().tobytes() in arrays for name, tensor in stored.items() if _is_decided(name, tensor))
    matrices = [tensor.detach() for tensor in model.parameters() if tensor.dim() == 2]
    return all(tensor.numpy().tobytes() in arrays or tensor.t().numpy().tobytes() in arrays for tensor in matrices)


def _is_decided(name: str, tensor: torch.Tensor) -> bool:
    """Whether a tensor of a quantized model holds codes, or what they are scaled by."""
    return tensor.dtype != torch.float32 or name.endswith((".scales", ".factors", ".input_scale"))


def _copy_shared(checkpoint: Path, root: Path) -> None:
    """Copy config and tokenizer; tokenizer.json cuts and pads by itself, so that any app's tokenizer does it alike.

    A pre-tokenizer that JavaScript would read otherwise is written in other words.
    """
    for name in CHECKPOINT_FILES:
        if (checkpoint / name).exists():
            shutil.copyfile(checkpoint / name, root / name)
    sentence_transformers.copy_settings(checkpoint, root)
    settings = json.loads((root / "tokenizer_config.json").read_text(encoding="utf-8"))
    for word in OF_THIS_MACHINE:
        settings.pop(word, None)
    (root / "tokenizer_config.json").write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", "utf-8")
    written = json.loads((root / "tokenizer.json").read_text(encoding="utf-8"))
    written["pre_tokenizer"] = transformers_js.read_alike(written.get("pre_tokenizer"))
    tokenizer = Tokenizer.from_str(json.dumps(written))
    pad = settings["pad_token"] if isinstance(settings["pad_token"], str) else settings["pad_token"]["content"]
    tokenizer.enable_truncation(max_length=settings["model_max_length"])
    tokenizer.enable_padding(pad_id=tokenizer.token_to_id(pad), pad_token=pad)
    tokenizer.save(str(root / "tokenizer.json"))


def _add_settings(config: Path, settings: Mapping[str, Any]) -> None:
    said = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps(said | dict(settings), indent=2) + "\n", encoding="utf-8")


def _real_texts(corpus: Corpus) -> list[str]:
    """Return texts of the validation split, spread evenly: nothing is tuned on them here."""
    texts = read(corpus, "validation").texts
    return [texts[i * len(texts) // REAL_TEXTS] for i in range(min(REAL_TEXTS, len(texts)))]
