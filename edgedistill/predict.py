"""Labels, vectors or answers for texts, from an artifact alone, through the runtime that an app would use."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from edgedistill import language_model
from edgedistill.errors import ModelError, RecipeError
from edgedistill.generate import Answer, GenerationOptions, Reader, prompt_of, room
from edgedistill.runtimes._model import LoadedModel
from edgedistill.sampling import Sampler

_RUNTIMES = {".onnx": "onnxruntime", ".gguf": "llama_cpp_encoder"}


@dataclass(frozen=True)
class Prediction:
    """What the model says about one text."""

    text: str
    probabilities: dict[str, float]  # by label, in the order of the model's outputs
    several: bool = False  # whether several labels may hold at once; the probabilities then add up to anything
    vector: tuple[float, ...] = ()  # of a sentence embedder, which has no labels

    @property
    def label(self) -> str:
        """The most likely label."""
        return max(self.probabilities, key=self.probabilities.__getitem__)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that hold: each that is likelier than not where several may, else the most likely one."""
        if not self.several:
            return (self.label,)
        return tuple(label for label, probability in self.probabilities.items() if probability > 0.5)

    def line(self, *, as_json: bool) -> str:
        """Return one line: label, probability and text between tabs, white space as one blank; or JSON with it all.

        Several labels stand between commas, and so do their probabilities; where none holds there is a hyphen. A
        vector is always JSON: its numbers mean nothing to a reader.
        """
        if self.vector:
            return _line({"text": self.text, "vector": self.vector})
        if not as_json:
            probabilities = ",".join(f"{self.probabilities[label]:.4f}" for label in self.labels)
            return f"{','.join(self.labels) or '-'}\t{probabilities or '-'}\t{' '.join(self.text.split())}"
        if self.several:
            return _line({"text": self.text, "labels": self.labels, "probabilities": self.probabilities})
        probability = self.probabilities[self.label]
        said = {"text": self.text, "label": self.label, "probability": probability, "probabilities": self.probabilities}
        return _line(said)


def _line(said: dict[str, Any]) -> str:
    return json.dumps(said, ensure_ascii=False).replace("\u2028", "\\u2028").replace("\x85", "\\u0085")


def lines_of(file: TextIO) -> Iterator[str]:
    """Yield each line without its end, as soon as it is there; a byte order mark is no part of the first.

    Raises:
        RecipeError: the file is not UTF-8.
    """
    try:
        for number, line in enumerate(file):
            yield (line if number else line.removeprefix("\ufeff")).rstrip("\r\n")
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise RecipeError(f"{file.name} is not UTF-8 (byte 0x{byte:02x}); save it as UTF-8") from error


def predictions(
    artifact: Path, texts: Iterable[str], *, variant: str | None, as_json: bool, raw: bool, options: GenerationOptions,
    note: Callable[[str], None],
) -> Iterator[str]:  # fmt: skip
    """Yield what the model says of each text, in pieces to be written one after another as soon as they are there.

    A language model's answer ends with a line feed, and where it is not JSON an empty line is between two. No text
    changes what is said of another.

    Args:
        artifact: a folder that was exported, or a .gguf file.
        texts: read one by one.
        variant: which model file; see `Predictor` and `language_model.open_model`.
        as_json: one line of JSON for each text, once it is known whole.
        raw: of a language model, go on from the text itself, without a chat template.
        options: of a language model.
        note: told how fast each answer was and how it ended.

    Raises:
        RecipeError: the path is no artifact, or what was asked for does not go with it.
        ModelError: a file of it cannot be read, or a text is too long.
    """
    if language_model.is_there(artifact):
        yield from _answers(artifact, texts, variant, as_json, raw, options, note)
        return
    predictor = Predictor(artifact, variant)  # first, as it says where nothing is an artifact
    given = [*options.given(), *(["raw"] if raw else [])]
    if given:
        raise RecipeError(f"{artifact} is no language model, and {', '.join(given)} is for those alone; leave it out")
    for text in texts:
        yield predictor.predict(text).line(as_json=as_json) + "\n"


def _answers(
    artifact: Path, texts: Iterable[str], variant: str | None, as_json: bool, raw: bool, options: GenerationOptions,
    note: Callable[[str], None],
) -> Iterator[str]:  # fmt: skip
    sampling = options.sampling()
    model = language_model.open_model(artifact, variant, threads=options.threads, context_tokens=options.context_tokens)
    note(f"{model.name} in {model.runtime}, threads: {model.decoder.threads}, context: {model.decoder.context_tokens}")
    for number, text in enumerate(texts):
        reader = Reader(model.decoder)
        reader.forget()
        prompt = prompt_of(model, text, raw=raw, system=options.system)
        answer = Answer(reader, prompt, Sampler(sampling), room(model, prompt, options.max_tokens))
        if number and not as_json:
            yield "\n"
        for piece in answer:
            if not as_json:
                yield piece
        yield _told(text, answer) if as_json else "" if answer.text.endswith("\n") else "\n"
        note(answer.told())


def _told(text: str, answer: Answer) -> str:
    """Return one line of JSON; it holds no times, so that the same model says the same."""
    said = {"text": text, "answer": answer.text, "finish": answer.finish}
    return _line(said | {"prompt_tokens": len(answer.prompt), "answer_tokens": len(answer.ids)}) + "\n"


class Predictor:
    """One model file of an artifact that labels or embeds, loaded."""

    def __init__(self, artifact: Path, variant: str | None) -> None:
        """Load a model file.

        Args:
            artifact: the folder that was exported.
            variant: `float32` is onnx/model.onnx, any other word W is onnx/model_W.onnx; None prefers `quantized`. Of a
                folder for llama.cpp `F32` is model-F32.gguf; None prefers the smallest.

        Raises:
            RecipeError: the folder is no artifact, or has no such model file.
            ModelError: a file of it cannot be read.
        """
        file = _model_file(artifact, variant)
        runtime: Any = import_module(f"edgedistill.runtimes.{_RUNTIMES[Path(file).suffix]}")
        try:
            self._model: LoadedModel = runtime.load(artifact, file, threads=1)
        except ModelError:
            raise
        except Exception as error:  # onnxruntime and tokenizers raise classes of their own for a damaged file
            reason = str(error).strip().partition("\n")[0]
            reason = f"its settings lack {reason}" if isinstance(error, KeyError) else reason
            raise ModelError(f"{artifact} cannot be loaded: {reason}; compare its files with SHA256SUMS") from error

    def predict(self, text: str) -> Prediction:
        """Return the probability of every label, or the vector; never batched, so no text changes another's answer."""
        logits = self._model.run(self._model.encode([text]))[0].astype(np.float64)
        if not self._model.labels:
            return Prediction(text, {}, vector=tuple(round(float(number), 6) for number in logits))
        several = self._model.several
        likely = np.exp(-np.logaddexp(0, -logits)) if several else np.exp(logits - logits.max())
        shares = (likely if several else likely / likely.sum()).tolist()
        return Prediction(text, dict(zip(self._model.labels, shares, strict=True)), several)


def _model_file(artifact: Path, variant: str | None) -> str:
    needed = ("config.json", "tokenizer.json", "tokenizer_config.json")
    missing = [name for name in needed if not (artifact / name).is_file()]
    there = sorted(file.stem for file in artifact.glob("onnx/model*.onnx"))
    if not (there or missing) and (
        small := sorted(artifact.glob("model-*.gguf"), key=lambda file: file.stat().st_size)
    ):
        return _chosen(
            {file.stem.removeprefix("model-"): file.name for file in small}, small[0].name, artifact, variant
        )
    if missing or not there:
        lacks = ", ".join(missing or ["onnx/model.onnx"])
        raise RecipeError(
            f"{artifact} is no artifact, it lacks {lacks}; name a folder below artifacts/ of a run"
            f"{language_model.found_below(artifact)}"
        )
    variants = {stem.removeprefix("model_") if stem != "model" else "float32": f"onnx/{stem}.onnx" for stem in there}
    return _chosen(variants, variants.get("quantized", variants[min(variants)]), artifact, variant)


def _chosen(variants: Mapping[str, str], first: str, artifact: Path, variant: str | None) -> str:
    """Return the file of a variant; `first` where none is named."""
    if variant is None:
        return first
    if variant not in variants:
        raise RecipeError(f"{artifact} has no variant {variant!r}; choose one of: {', '.join(variants)}")
    return variants[variant]
