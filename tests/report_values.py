"""Made-up values for the report's tests: plausible by default, nasty on request."""

from dataclasses import replace
from pathlib import Path, PurePosixPath

from report_benchmark import MANY, NASTY, benchmark, digest, metric, step, subject, workloads

from edgedistill.recipe import Recipe
from edgedistill.recipe_sections import BenchmarkOptions, BudgetOptions, DataOptions, DistillOptions
from edgedistill.report.evidence import Evidence
from edgedistill.results import BenchmarkResult, Validity
from edgedistill.section import LossOptions, SourceOptions, StudentOptions, TaskOptions, TeacherOptions
from edgedistill.student_values import OwnStart, Search, Tokens, TokenSplit, Trial
from edgedistill.values import (
    Artifact,
    Augmentation,
    Baseline,
    Check,
    Controls,
    Corpus,
    Epoch,
    Evaluation,
    Overlap,
    Parity,
    ParityCheck,
    QuantizedModel,
    QuantizedTensor,
    Signals,
    SignalSplit,
    Split,
    StageValue,
    Student,
    Teacher,
    Training,
    Variant,
)

SIGNALS = frozenset({"text", "labels", "logits", "hidden_states", "attentions", "embeddings"})
BUDGET = BudgetOptions(min_retained_quality=0.9, max_p90_latency_s=0.001, max_file_bytes=9_000_000)


def evaluation(splits: tuple[str, ...], value: float) -> Evaluation:
    """Return the metrics of one model."""
    return Evaluation(
        outputs={split: PurePosixPath(f"{split}.npy") for split in splits},
        metrics={split: metric(value) for split in splits},
    )


def training() -> Training:
    """Return six epochs, the fifth of them the best."""
    curve = tuple(
        Epoch(
            epoch=i,
            train_loss=0.7 * 0.8**i,
            validation_loss=0.5 * 0.9**i + 0.004 * i * i,
            validation_metric=0.82 - 0.2 * 0.5**i - (0.004 if i == 6 else 0),
            learning_rate=1e-3,
        )
        for i in range(1, 7)
    )
    return Training(curve=curve, best_epoch=5, steps=1200, seconds=64.0, rows=6400, seed=0, device="cpu", threads=2)


def quantized_model(method: str) -> QuantizedModel:
    """Return a model with one large quantized tensor and a small float one."""
    tensors = (
        QuantizedTensor(
            name="embedding.weight", shape=(30522, 256), scheme="int8 per_channel symmetric", bits=8, code_limit=63,
            stored_bytes=7_935_720, max_error_in_steps=0.5,
        ),
        QuantizedTensor(
            name="head.bias", shape=(2,), scheme="float32", bits=32, code_limit=None, stored_bytes=8,
            max_error_in_steps=0.0,
        ),
    )  # fmt: skip
    return QuantizedModel(
        method=method,
        scheme="int8 per_channel symmetric",
        tensors=tensors,
        weights=PurePosixPath("weights.safetensors"),
        weights_bytes=7_935_728,
        weights_sha256=digest(51),
        reduced_range=True,
        reduced_range_reason="AVX2 kernels without VNNI saturate beyond seven bits",
        evaluation=evaluation(("test",), 0.801),
    )


def variant(name: str, size_bytes: int) -> Variant:
    """Return one exported file that passed parity."""
    exact = ParityCheck(max_abs_diff=2.1e-6, tolerance=1e-4, top1_agreement=1.0, inputs=64, worst="an emoji, batch 8")
    deployed = ParityCheck(
        max_abs_diff=0.013, tolerance=None, top1_agreement=0.996, inputs=64, worst="the longest text"
    )
    parity = Parity(exact=exact, deployed=deployed, weights_bit_equal=True, tokenizer_texts=80)
    file = "onnx/model.onnx" if name == "float32" else f"onnx/model_{name}.onnx"
    return Variant(
        name=name,
        scheme=name,
        file=PurePosixPath(file),
        sha256=digest(size_bytes),
        size_bytes=size_bytes,
        opset=20,
        ir_version=10,
        exporter="dynamo",
        exporters_refused=(),
        parity=parity,
    )


def corpus(labels: tuple[str, ...], splits: tuple[str, ...]) -> Corpus:
    """Return a corpus with these labels and held-out splits."""
    names = ("train", "validation", "calibration", *splits)
    made = {
        name: Split(
            file=PurePosixPath(f"{name}.parquet"),
            rows=6400 if name == "train" else 1000,
            labelled_rows=6400 if name == "train" else 1000,
            label_counts=dict.fromkeys(labels, 500),
            exact_duplicates_removed=11,
            near_duplicates_removed=4,
            conflicting_rows_removed=1,
            empty_rows_removed=0,
            sha256=digest(i),
        )
        for i, name in enumerate(names)
    }
    return Corpus(
        labels=labels,
        splits=made,
        overlaps=(Overlap(kept_in="test", removed_from="train", exact=3, near=7),),
        near_duplicate_rule="Jaccard similarity of character 5-grams above 0.8",
        sources={"train": digest(70), "test": digest(71)},
        augmentation=augmentation(),
    )


def augmentation() -> Augmentation:
    """Return how 800 texts became 1,566 more."""
    return Augmentation(
        copies=2, probability=0.4, neighbours=15, seed=7, vocabulary=21_722, made_from=800, rows=1566,
        equal_to_held_out=3, equal_to_train=31, words=25_600, words_replaced=10_215,
    )  # fmt: skip


def search() -> Search:
    """Return three trials, the last one chosen, and too close to the recipe's own."""
    trials = [
        Trial(
            temperature=temperature, soft_weight=weight, metric=metric(value), agreement=value + 0.1, divergence=0.12,
            best_epoch=2, behind=None if lead is None else metric(lead).model_copy(update={"low": low, "high": high}),
        )
        for temperature, weight, value, lead, low, high in (
            (2.0, 0.9, 0.80, 0.01, -0.005, 0.025), (8.0, 0.9, 0.75, 0.06, 0.03, 0.09), (4.0, 1.0, 0.81, None, 0, 0),
        )
    ]  # fmt: skip
    return Search(trials=tuple(trials), chosen=2, epochs=3, seconds=75.0, warning="the lead may be luck")


def recipe(budget: BudgetOptions) -> Recipe:
    """Return a recipe that names no real file; the report reads only its words and its budget."""
    return Recipe.model_construct(
        name="sentiment-tiny",
        version="0.3.0",
        licence="MIT",
        task=TaskOptions(kind="text_classification"),
        teacher=TeacherOptions(kind="transformers"),
        data=DataOptions(train=SourceOptions(source="jsonl")),
        student=StudentOptions(kind="static"),
        distill=DistillOptions(losses=(LossOptions(loss="forward_kl"),)),
        quantize=(),
        export=(),
        benchmark=BenchmarkOptions(),
        budget=budget,
    )


def evidence(
    *,
    labels: tuple[str, ...] = ("negative", "positive"),
    measured: BenchmarkResult | None = None,
    budget: BudgetOptions | None = None,
) -> Evidence:
    """Return the values of one whole build."""
    result = benchmark() if measured is None else measured
    splits = result.splits
    signal = SignalSplit(
        rows=1000, **{name: PurePosixPath(name) for name in ("token_ids", "offsets", "row_hashes", "outputs", "labels")}
    )
    artifacts = [subject for subject in result.subjects if subject.role == "artifact"]
    made = Evidence(
        recipe=recipe(BUDGET if budget is None else budget),
        corpus=corpus(labels, splits),
        teacher=Teacher(
            kind="transformers", source="org/MiniLM-L6 at 4fc1b1a", revision="4fc1b1a", licence="Apache-2.0",
            task="text_classification", labels=labels, signals=SIGNALS,
            checkpoint=PurePosixPath("checkpoint"), base=PurePosixPath("base"),
            weights_sha256=digest(2), source_weights_sha256=digest(3), parameters=22_700_000, weights_bytes=90_900_000,
            fit_method="head", fit=training(),
        ),
        signals=Signals(
            task="text_classification",
            width=2,
            splits={"train": signal}, tokenizer_sha256=digest(4), pad_token_id=0,
            teacher_weights_sha256=digest(2), metrics={}, seconds=75.0, rows=9400,
        ),
        tokens=Tokens(
            tokenizer=PurePosixPath("tokenizer"), tokenizer_sha256=digest(4), pad_token_id=0, splits={}, start=None,
            kept=None, vocabulary=30_522, whole_vocabulary=30_522, seen_in_train=12_318,
        ),
        student=Student(
            kind="static", checkpoint=PurePosixPath("checkpoint"), initialised_from="the teacher's token embeddings",
            parameters=7_814_000, weights_bytes=31_260_000, flops_per_token=514, training=training(),
            preflight=(Check(name="teacher against itself", value=0.0, limit="0 to 1e-6", explanation="equal inputs"),),
            evaluation=evaluation(splits, 0.802), weights_sha256=digest(5), size_warnings=(),
        ),
        controls=Controls(
            baselines=(
                Baseline(name="tfidf_linear", description="words and pairs", evaluation=evaluation(splits, 0.76)),
            ),
            no_teacher=evaluation(splits, 0.79), no_teacher_training=training(),
            no_teacher_initialised_from="the teacher's token embeddings", repeats=(),
            skipped=None,
        ),
        quantized={
            name.partition(".")[2]: quantized_model(name.partition(".")[2])
            for name in (one.name for one in artifacts) if not name.endswith(".float32")
        },
        artifacts={
            "onnx": Artifact(
                format="onnx", runtime="onnxruntime", root=PurePosixPath("artifact"),
                variants=tuple(variant(one.name.partition(".")[2], one.model_bytes) for one in artifacts),
                shared_files={"tokenizer.json": digest(8), "config.json": digest(9)}, shared_bytes=700_000,
                teacher=None, teacher_root=None, recipe_sha256=digest(6),
            )
        },
        benchmark=result,
        search=search(),
    )  # fmt: skip
    for name, value in made.stage_values().items():
        place(value, name)
    return made


def place(value: StageValue, name: str) -> None:
    """Give a value the folder that a run would have given it."""
    value._folder = Path(f"stages/{name.replace('.', '-')}-0123456789abcdef")


def nasty_evidence() -> Evidence:
    """Return a build in which everything that can be odd is: names, sizes, classes, empty percentiles, no controls."""
    splits = ("test", *MANY)
    base = benchmark(splits)
    wild = [
        subject("onnx.int4_groupwise", f"int4 {NASTY}", 2.2e-6, 41_234, 0.07, splits, 0.0112),
        subject(
            "onnx.dynamic_int8",
            "int8 student of the very long-winded teacher family",
            0.031,
            2_345_678_901,
            0.9,
            splits,
            0.0112,
        ),
    ]
    few = wild[1].model_copy(update={"workloads": workloads(0.031, count=20)})
    measured = base.model_copy(
        update={
            "subjects": (*base.subjects[:3], wild[0], few),
            "waterfall": (
                *base.waterfall,
                step("onnx.float32", "onnx.int4_groupwise", "quantize", -0.7, 0.08, splits),
            ),
            "controls": (),
            "validity": Validity(
                valid=False, disturbed=("another process used 63 % of a CPU", "the clock was throttled"), wrong=()
            ),
            "environment": base.environment.model_copy(update={"emulated": True, "target": "raspberry_pi_5"}),
        }
    )
    labels = (NASTY, *(f"label number {i}" for i in range(24)))
    made = evidence(labels=labels, measured=measured)
    controls = made.controls.model_copy(
        update={"baselines": (), "no_teacher": None, "no_teacher_training": None, "skipped": "distill.controls is off"}
    )
    place(controls, "controls")
    tokens = made.tokens.model_copy(
        update={
            "kept": PurePosixPath("kept.npy"), "vocabulary": 12_380,
            "splits": {split: token_split() for split in ("train", *splits)},
            "start": OwnStart(
                checkpoint=PurePosixPath("checkpoint"), source=NASTY, licence="MIT",
                weights_sha256=digest(7),
            ),
        }
    )  # fmt: skip
    place(tokens, "tokens")
    student = made.student.model_copy(update={"size_warnings": (f"the student is {NASTY}",)})
    place(student, "student")
    return replace(made, controls=controls, tokens=tokens, student=student)


def token_split() -> TokenSplit:
    """Return a split that a student with fewer tokens reads."""
    return TokenSplit(
        rows=1000, token_ids=PurePosixPath("token_ids"), offsets=PurePosixPath("offsets"), tokens_per_text=27.7,
        whole_tokens_per_text=27.0, teacher_tokens_per_text=26.5, unknown_share=0.012, whole_unknown_share=0.0,
        identical_rows=672, proven_rows=650,
    )  # fmt: skip
