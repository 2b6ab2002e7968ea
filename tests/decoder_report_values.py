"""Made-up values of a language model's build for the report's tests: plausible by default, nasty on request."""

from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from report_benchmark import NASTY, digest, latency, metric
from report_values import corpus, place, training

from edgedistill.decoder_results import (
    Decode,
    DecoderBenchmark,
    DecoderSpeedup,
    DecoderSubject,
    Flip,
    Prefill,
)
from edgedistill.decoder_values import (
    CachedLogits,
    DecoderArtifact,
    DecoderControls,
    DecoderEvaluation,
    DecoderFile,
    DecoderParity,
    DecoderQuality,
    DecoderRepeat,
    DecoderSignals,
    DecoderSplit,
    DecoderStudent,
    HeldByGate,
    QuantizedDecoder,
    TensorFacts,
)
from edgedistill.recipe import Recipe
from edgedistill.recipe_sections import BenchmarkOptions, BudgetOptions, DataOptions, DistillOptions
from edgedistill.report.decoder.evidence import DecoderEvidence
from edgedistill.results import Comparison, Environment, Memory, Noise, Ratio, SeedResult, Step, Validity
from edgedistill.section import LossOptions, SourceOptions, StudentOptions, TeacherOptions
from edgedistill.tasks.text_generation import Options as TextGeneration
from edgedistill.values import Check, Metric, Teacher

SPLITS = ("test", "challenge.stories")
BUDGET = BudgetOptions(
    min_retained_quality=0.9, max_p90_latency_s=0.5, max_peak_memory_bytes=200_000_000, max_file_bytes=60_000_000
)
Q4 = "gguf.q4_k_m"
FALLBACK = "model.layers.3.mlp.down_proj.weight"
WHY = "its rows of 576 are no multiple of 256"
TEACHER_MS, EXPORTED_MS, FLOAT_MS, Q4_MS = 60.0, 24.0, 12.0, 6.2


def ratio(value: float) -> Ratio:
    """Return a ratio with the range of its rounds."""
    return Ratio(median=value, low=value * 0.95, high=value * 1.06)


def speedup(other_ms: float, own_ms: float) -> DecoderSpeedup:
    """Return how many times faster a model is, by its time per token."""
    value = other_ms / own_ms
    return DecoderSpeedup(prefill=ratio(value * 0.8), decode=ratio(value), ttft=ratio(value * 0.79))


def quality(perplexity: float, accuracy: float, teacher: float | None = None, student: float | None = None) -> Any:
    """Return a model's quality; `teacher` and `student` are its divergences from these, None where it has none."""
    return DecoderQuality(
        perplexity=metric(perplexity, perplexity * 0.03, 4096),
        accuracy=metric(accuracy, 0.011, 4096),
        kl_teacher=None if teacher is None else metric(teacher, teacher * 0.06, 4096),
        kl_teacher_p99=None if teacher is None else teacher * 9,
        agreement_teacher=None if teacher is None else metric(0.731, 0.014, 4096),
        kl_student=None if student is None else metric(student, student * 0.06, 4096),
        kl_student_p99=None if student is None else student * 8,
        agreement_student=None if student is None else metric(0.962, 0.006, 4096),
        retained=None if teacher is None else metric(accuracy / 0.431, 0.013, 4096),
    )  # fmt: skip


def evaluation(found: DecoderQuality, splits: tuple[str, ...] = SPLITS) -> DecoderEvaluation:
    """Return what a model says of each split."""
    return DecoderEvaluation(
        positions={split: PurePosixPath(f"{split}.npy") for split in splits}, quality=dict.fromkeys(splits, found)
    )


TEACHER = quality(12.31, 0.431)
STUDENT = quality(16.82, 0.396, teacher=0.337)
ALONE = quality(19.34, 0.371, teacher=0.502)
UNTRAINED = quality(41_234.0, 0.002, teacher=8.14)
ROUNDED = quality(17.09, 0.394, teacher=0.352, student=0.0181)
DEPLOYED = quality(17.13, 0.393, teacher=0.354, student=0.0213)
FLOAT_FILE = quality(16.82, 0.396, teacher=0.337, student=1.4e-7)


def subject(
    name: str, title: str, tpot_ms: float, size_bytes: int, found: DecoderQuality | None, **more: Any
) -> DecoderSubject:
    """Return one measured model; a token takes it `tpot_ms`, a prompt of 128 as long as ten."""
    role = {"teacher": "teacher", "teacher.gguf": "teacher_exported"}.get(name, "artifact")
    seconds = tpot_ms / 1000
    given: dict[str, Any] = {
        "name": name,
        "title": title,
        "role": role,
        "runtime": "pytorch_decoder" if role == "teacher" else "llama_cpp",
        "scheme": name.rpartition(".")[2],
        "sha256": digest(size_bytes),
        "model_bytes": size_bytes,
        "shipped_bytes": size_bytes + 12_000,
        "load_median_s": size_bytes / 4e8,
        "load_max_s": size_bytes / 3e8,
        "memory": Memory(
            peak_median_bytes=70_000_000 + size_bytes,
            peak_max_bytes=71_000_000 + size_bytes,
            imported_median_bytes=50_000_000,
            source="VmHWM",
        ),
        "threads": 1,
        "kv_cache_tokens": 160,
        "kv_cache_bytes": 160 * 23_040,
        "prefill": Prefill(
            name="pp128", tokens=128, latency=latency(seconds * 10), tokens_per_s=12.8 / seconds,
            round_tokens_per_s=tuple(12.8 / seconds * factor for factor in (1.0, 0.97, 1.02)),
        ),
        "decode": Decode(
            name="tg32 @ d128", tokens=32, depth=128, tpot=latency(seconds, 3000), tokens_per_s=1 / seconds,
            round_tokens_per_s=tuple(factor / seconds for factor in (1.0, 0.98, 1.03)), over_single_thread=None,
        ),
        "ttft": latency(seconds * 10.1),
        "speedup": speedup(TEACHER_MS, tpot_ms),
        "speedup_float": speedup(FLOAT_MS, tpot_ms) if role == "artifact" and not name.endswith("float32") else None,
        "speedup_exported": speedup(EXPORTED_MS, tpot_ms) if role == "artifact" else None,
        "quality": {} if found is None else dict.fromkeys(SPLITS, found),
        "flips": {},
        "worst_flips": {},
        "noise": Noise(cpu_pressure_percent=0.4, involuntary_switches_per_s=3.2, steal_percent=None, cpu_per_wall=0.99),
        "outputs_checked": True,
    }  # fmt: skip
    return DecoderSubject(**{**given, **more})


def flip(reference_margin: float, token: str = " and", instead: str = " or") -> Flip:
    """Return a position where the file says another token."""
    return Flip(
        position=77, row=3, token=token, instead=instead, reference_margin=reference_margin, margin=0.11
    )  # fmt: skip


def step(before: str, after: str, stage: Any, value: float, half: float) -> Step:
    """Return one bar of the waterfall, in nats a token."""
    differences = {split: metric(value * (1 + 0.2 * i), half) for i, split in enumerate(SPLITS)}
    artifact = None if stage == "distill" else after
    mean = metric(value * 1.1, half * 0.8)
    return Step(before=before, after=after, stage=stage, artifact=artifact, differences=differences, mean=mean)


def comparison(ahead: float, half: float = 0.008) -> Comparison:
    """Return the student against its twin without a teacher; below zero it is better."""
    return Comparison(
        control="no_teacher",
        title="the same student without the teacher",
        quality={split: ALONE.perplexity for split in SPLITS},
        differences={split: metric(ahead, half) for split in SPLITS},
        mean=metric(ahead, half * 0.7),
    )


def benchmark(**more: Any) -> DecoderBenchmark:
    """Return a benchmark of a teacher, its GGUF file, a float student and one in 4 bits."""
    flipped = {"flips": {"test": 156, "challenge.stories": 171}, "worst_flips": {"test": (flip(2.31), flip(0.42))}}
    given: dict[str, Any] = {
        "splits": SPLITS,
        "conversations": False,
        "rounds": 3,
        "subjects": (
            subject("teacher", "teacher, PyTorch float32", TEACHER_MS, 538_000_000, TEACHER),
            subject("teacher.gguf", "teacher, GGUF F16", EXPORTED_MS, 270_900_000, None),
            subject("gguf.float32", "student, gguf float32", FLOAT_MS, 181_000_000, FLOAT_FILE),
            subject(Q4, "student, gguf q4_k_m", Q4_MS, 38_400_000, DEPLOYED, **flipped),
        ),
        "waterfall": (
            step("teacher", "student", "distill", 0.312, 0.014),
            step("student", "gguf.float32", "export", 0.0, 0.0002),
            step("gguf.float32", Q4, "quantize", 0.018, 0.004),
        ),
        "controls": (comparison(-0.139),),
        "seeds": (),
        "student_quality": dict.fromkeys(SPLITS, STUDENT),
        "simulated_quality": {"q4_k_m": dict.fromkeys(SPLITS, ROUNDED)},
        "environment": Environment(
            machine="x86_64", cpu="Example CPU 9000 @ 2.1 GHz", cpu_features=("avx2", "avx512f"), logical_cpus=2,
            memory_bytes=16_000_000_000, operating_system="Linux 6.1", threads=1,
            versions={"python": "3.11.2", "llama_cpp": "0.3.36"}, target="host", emulated=False,
        ),
        "validity": Validity(valid=True, disturbed=(), wrong=()),
        "seconds": 71.0,
    }  # fmt: skip
    return DecoderBenchmark(**{**given, **more})


def with_q4(measured: DecoderBenchmark | None = None, **updates: object) -> DecoderBenchmark:
    """Return the benchmark with other measurements of its 4-bit file."""
    result = benchmark() if measured is None else measured
    subjects = [one.model_copy(update=updates) if one.name == Q4 else one for one in result.subjects]
    return result.model_copy(update={"subjects": tuple(subjects)})


def tensor(name: str, kind: str, wanted: str, shape: tuple[int, ...], **more: Any) -> TensorFacts:
    """Return one stored tensor."""
    bits = {"F32": 32, "Q8_0": 8.5, "Q6_K": 6.5625, "Q4_K": 4.5, "Q5_0": 5.5}[kind]
    numbers = shape[0] * (shape[1] if len(shape) > 1 else 1)
    given = {"reason": "", "relative_error": 0.0 if kind == "F32" else 0.06, **more}
    return TensorFacts(
        name=name, shape=shape, type=kind, wanted=wanted, stored_bytes=round(numbers * bits / 8), **given
    )  # fmt: skip


def quantized(importance: bool = True) -> QuantizedDecoder:
    """Return a 4-bit model, one of whose tensors fell back."""
    return QuantizedDecoder(
        method="q4_k_m",
        tensors=(
            tensor("model.embed_tokens.weight", "Q6_K", "Q6_K", (49_152, 576)),
            tensor("model.layers.0.self_attn.q_proj.weight", "Q4_K", "Q4_K", (576, 576)),
            tensor(FALLBACK, "Q5_0", "Q4_K", (576, 1536), reason=WHY),
            tensor("model.norm.weight", "F32", "F32", (576,)),
        ),
        weights=PurePosixPath("weights.safetensors"),
        weights_bytes=38_100_000,
        weights_sha256=digest(51),
        bits_per_weight=5.31,
        importance_positions=81_920 if importance else 0,
        gate=HeldByGate(max_kl=0.1, max_metric_loss=0.01, kl=metric(0.0123), metric_loss=metric(0.004)),
        evaluation=evaluation(ROUNDED),
    )


def file(name: str, size_bytes: int, bits: float, **parity: Any) -> DecoderFile:
    """Return one exported file that passed parity."""
    proof: dict[str, Any] = {
        "weights_bit_equal": True, "tokenizer_texts": 80, "conversations": 0, "positions": 512, "kl": 2.1e-4,
        "kl_limit": 0.01, "agreement": 0.987, "sure_agreement": 1.0, "sure_limit": 0.99,
    }  # fmt: skip
    return DecoderFile(
        name=name, file=PurePosixPath(f"smol-talk-45M-v0.3.0-{name.upper()}.gguf"), sha256=digest(size_bytes),
        size_bytes=size_bytes, bits_per_weight=bits, parity=DecoderParity(**{**proof, **parity}),
    )  # fmt: skip


def recipe(budget: BudgetOptions, task: TextGeneration) -> Recipe:
    """Return a recipe that names no real file."""
    return Recipe.model_construct(
        name="smol-talk",
        version="0.3.0",
        licence="Apache-2.0",
        task=task,
        teacher=TeacherOptions(kind="transformers"),
        data=DataOptions(train=SourceOptions(source="jsonl")),
        student=StudentOptions(kind="layers"),
        distill=DistillOptions(losses=(LossOptions(loss="forward_kl"),)),
        quantize=(),
        export=(),
        benchmark=BenchmarkOptions(),
        budget=budget,
    )


def split(rows: int) -> DecoderSplit:
    """Return a split as token ids."""
    files = ("token_ids", "offsets", "counts", "texts", "row_hashes")
    return DecoderSplit(
        rows=rows, tokens=rows * 151, positions=rows * 150, **{name: PurePosixPath(f"{name}.npy") for name in files}
    )


def cached(way: str, bytes_per_position: float) -> CachedLogits:
    """Return what is kept of the teacher."""
    files = {name: PurePosixPath(f"{name}.npy") for name in ("offsets", "tokens", "weights")}
    return CachedLogits(way=way, bytes_per_position=bytes_per_position, **files)


def evidence(
    *, measured: DecoderBenchmark | None = None, budget: BudgetOptions | None = None, conversations: bool = False,
    **more: Any,
) -> DecoderEvidence:  # fmt: skip
    """Return the values of one whole build."""
    task = TextGeneration(kind="text_generation", conversations=conversations)
    names = ("train", "validation", "calibration", *SPLITS)
    given: dict[str, Any] = {
        "recipe": recipe(BUDGET if budget is None else budget, task),
        "task": task,
        "corpus": corpus((), SPLITS),
        "teacher": Teacher(
            kind="transformers", source="org/SmolLM-135M at 4fc1b1a", revision="4fc1b1a", licence="Apache-2.0",
            task="text_generation", labels=(), signals=frozenset({"text", "logits"}),
            checkpoint=PurePosixPath("checkpoint"), base=None, weights_sha256=digest(2),
            source_weights_sha256=digest(3), parameters=134_500_000, weights_bytes=538_000_000, fit_method=None,
            fit=None,
        ),
        "signals": DecoderSignals(
            task="text_generation", conversations=conversations,
            splits={name: split(6400 if name == "train" else 27) for name in names},
            logits={"train": cached("sampled", 61.2), "validation": cached("sampled", 61.9)},
            reference={name: PurePosixPath(f"{name}.npy") for name in SPLITS}, evaluation=evaluation(TEACHER),
            vocabulary=49_152, tokenizer_sha256=digest(4), pad_token_id=0, teacher_weights_sha256=digest(2),
            seconds=812.0,
        ),
        "student": DecoderStudent(
            kind="layers", checkpoint=PurePosixPath("checkpoint"), initialised_from="8 of the teacher's 30 layers",
            parameters=45_200_000, weights_bytes=181_000_000, training=training(),
            preflight=(Check(name="token_ids", value=0.0, limit="0", explanation="both read the same ids"),),
            evaluation=evaluation(STUDENT), reference={}, weights_sha256=digest(5),
        ),
        "controls": DecoderControls(
            no_teacher=evaluation(ALONE), no_teacher_training=training(), untrained=evaluation(UNTRAINED),
            repeats=(
                DecoderRepeat(
                    seed=1, student=evaluation(quality(16.71, 0.397, teacher=0.334)),
                    no_teacher=evaluation(quality(19.52, 0.369, teacher=0.509)),
                ),
            ),
            skipped=None,
        ),
        "quantized": {"q4_k_m": quantized()},
        "artifacts": {
            "gguf": DecoderArtifact(
                format="gguf", runtime="llama_cpp", root=PurePosixPath("smol-talk-0.3.0"),
                files=(file("float32", 181_000_000, 32.0), file("q4_k_m", 38_400_000, 5.31)),
                shared_files={"NOTICE": digest(8)}, shared_bytes=12_000, teacher=file("f16", 270_900_000, 16.01),
                teacher_root=PurePosixPath("teacher"), recipe_sha256=digest(6),
            )
        },
        "benchmark": benchmark() if measured is None else measured,
    }  # fmt: skip
    made = DecoderEvidence(**{**given, **more})
    for name, value in made.stage_values().items():
        place(value, name)
    return made


def nasty_evidence() -> DecoderEvidence:
    """Return a build in which everything that can be odd is: tokens, names, threads, gaps, no controls, no quality."""
    made = evidence()
    decode = made.benchmark.subjects[3].decode.model_copy(update={"over_single_thread": 3.42})
    quick = latency(0.06, count=20)
    measured = with_q4(
        made.benchmark,
        threads=2, decode=decode, ttft=quick, speedup=speedup(6.0, 6.1), speedup_exported=None,
        worst_flips={"test": (flip(9.1, NASTY, "\n\t"), flip(3.0, "`` | ``", "☃"))},
    )  # fmt: skip
    subjects = list(measured.subjects)
    hollow = subjects[3].quality["test"].model_copy(update={"retained": None, "kl_student": None})
    subjects[3] = subjects[3].model_copy(update={"quality": {"test": hollow}})
    wild = subjects[3].model_copy(update={"name": f"gguf.{NASTY}", "title": NASTY, "quality": {}, "flips": {}})
    disturbed = (f"student, gguf q4_k_m: with 2 threads a token took 3.4 times as long as with one; {NASTY}",)
    measured = measured.model_copy(
        update={
            "subjects": (*subjects, wild),
            "controls": (),
            "simulated_quality": {},
            "validity": Validity(valid=False, disturbed=disturbed, wrong=()),
            "environment": measured.environment.model_copy(update={"emulated": True, "target": "raspberry_pi_5"}),
        }
    )
    skipped = DecoderControls(
        no_teacher=None, no_teacher_training=None, untrained=None, repeats=(), skipped="distill.controls is off"
    )
    model = quantized(importance=False)
    odd = model.tensors[0].model_copy(update={"name": NASTY, "wanted": "IQ4_NL", "reason": NASTY})
    model = model.model_copy(update={"tensors": (odd, *model.tensors[1:])})
    made = replace(made, benchmark=measured, controls=skipped, quantized={"q4_k_m": model})
    for name, value in made.stage_values().items():
        place(value, name)
    return made


def seeds() -> tuple[SeedResult, ...]:
    """Return two seeds with their paired gains."""
    return tuple(
        SeedResult(
            seed=number, quality={name: found.perplexity for name in SPLITS},
            differences={name: metric(-0.139, 0.008) for name in SPLITS}, mean=metric(-0.139, 0.006),
        )
        for number, found in enumerate((STUDENT, quality(16.71, 0.397, teacher=0.334)))
    )  # fmt: skip


def interval(value: float, low: float, high: float) -> Metric:
    """Return a metric with an interval of its own."""
    return Metric(value=value, low=low, high=high, n=4096)


def folder_of(name: str) -> Path:
    """Return where a value of this name lies."""
    return Path(f"stages/{name}-0123456789abcdef")
