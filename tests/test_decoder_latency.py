"""What the rounds of a language model add up to, and when they are not to be trusted."""

from typing import Any

import numpy as np
import pytest

from edgedistill.benchmark import latency as any_latency
from edgedistill.benchmark.decoder import latency, validity
from edgedistill.benchmark.decoder.jobs import Passes, SpeedAnswer, Tops
from edgedistill.benchmark.noise import Counters
from edgedistill.decoder_results import DecoderBenchmark, DecoderSubject
from edgedistill.results import Environment, Validity

PASSES = Passes([list(range(40))] * 2, prompt_tokens=30)
TOPS = Tops([[1] * 11] * 2, [[20.0] * 11] * 2)
QUIET = Counters(wall_s=2.0, cpu_s=1.99, involuntary_switches=4, pressure_s=0.01, steal_ticks=0, all_ticks=400)


def answer(prefill_ms: float, step_ms: float, **changes: Any) -> SpeedAnswer:
    """Return eight passes, of which a few take longer."""
    spread = np.array([1.0, 1.0, 1.0, 1.0, 1.0, 1.1, 1.2, 0.9])
    fields: dict[str, Any] = {
        "load_s": 0.5,
        "imported_bytes": 30_000_000,
        "peak_bytes": 90_000_000,
        "memory_source": "VmHWM",
        "threads": 1,
        "kv_cache_bytes": 4000,
        "encode_ns": [1_000_000] * 8,
        "prefill_ns": (prefill_ms * 1e6 * spread).astype(int).tolist(),
        "step_ns": np.tile((step_ms * 1e6 * spread).astype(int)[:, None], (1, 10)).tolist(),
        "tops": TOPS,
        "noise": QUIET,
    }
    return SpeedAnswer(**fields | changes)


TEACHER = [answer(60, 4), answer(66, 4.4), answer(63, 4.2)]
STUDENT = [answer(20, 2), answer(22, 2.2), answer(21, 2.1)]


def test_speeds_are_in_tokens_and_named_as_llama_bench_names_them() -> None:
    prefill = latency.prefill_of(TEACHER, PASSES)
    assert prefill.name == "pp30"
    assert prefill.round_tokens_per_s == pytest.approx((500, 30 / 0.066, 30 / 0.063))
    assert prefill.tokens_per_s == pytest.approx(30 / 0.063)
    assert prefill.latency.count == 24
    assert prefill.latency.p90_s is None, "24 prompts cannot carry a p90"
    decode = latency.decode_of(TEACHER, PASSES, None)
    assert decode.name == "tg10 @ d30"
    assert decode.tpot.count == 240
    assert decode.tpot.p50_s == pytest.approx(0.0042)
    assert decode.tpot.p90_s is not None, "240 tokens can"
    assert decode.tpot.p99_s is None
    assert decode.round_tokens_per_s[0] == pytest.approx(1 / (0.004 * 1.025))
    assert decode.over_single_thread is None
    assert latency.ttft_of(TEACHER).p50_s == pytest.approx(0.064)


def test_a_speedup_is_the_ratio_of_each_round() -> None:
    found = latency.speedup(TEACHER, STUDENT)
    assert found.prefill.median == pytest.approx(3)
    assert found.decode.low == pytest.approx(found.decode.high) == pytest.approx(2)
    assert found.ttft.median == pytest.approx(64 / 22)
    turned = latency.speedup(TEACHER, STUDENT[::-1])
    assert turned.decode.low < turned.decode.high, "rounds are not mixed"


def test_a_speedup_in_decoding_follows_from_the_tokens_per_second_beside_it() -> None:
    stalling = [answer(20, 2, step_ns=[[2_000_000] * 9 + [40_000_000]] * 8)] * 3
    rates = [latency.decode_of(rounds, PASSES, None).tokens_per_s for rounds in (TEACHER, stalling)]
    ratio = latency.speedup(TEACHER, stalling).decode
    assert ratio.median == pytest.approx(rates[1] / rates[0])
    assert ratio.median < 1, "the p50 of its tokens is half of the teacher's, and yet it is slower"


def subject(rounds: list[SpeedAnswer], **changes: Any) -> DecoderSubject:
    """Return what the stage would say of these rounds."""
    fields: dict[str, Any] = {
        "name": "gguf.q4_0",
        "title": "student, gguf q4_0",
        "role": "artifact",
        "runtime": "llama_cpp",
        "scheme": "Q4_0",
        "sha256": "a" * 64,
        "model_bytes": 10,
        "shipped_bytes": 20,
        "load_median_s": 0.5,
        "load_max_s": 0.5,
        "memory": any_latency.memory_of(rounds),
        "threads": rounds[0].threads,
        "kv_cache_tokens": 40,
        "kv_cache_bytes": 4000,
        "prefill": latency.prefill_of(rounds, PASSES),
        "decode": latency.decode_of(rounds, PASSES, None),
        "ttft": latency.ttft_of(rounds),
        "speedup": latency.speedup(TEACHER, rounds),
        "quality": {},
        "flips": {},
        "worst_flips": {},
        "noise": latency.noise_of(rounds, threads=1),
        "outputs_checked": validity.answers_agree(rounds, TOPS),
    }
    return DecoderSubject(**fields | changes)


def test_what_is_undisturbed_is_valid() -> None:
    found = subject(STUDENT)
    assert found.memory.peak_max_bytes == 90_000_000
    assert found.noise.cpu_per_wall == pytest.approx(0.995)
    assert not [*validity.disturbances_of(found, threads=1), *validity.faults_of(found, "a" * 64, threads=1)]


def test_threads_that_wait_for_each_other_are_told() -> None:
    slow = [answer(80, 54, threads=2)] * 3  # 27 s for what one thread does in 1 s
    decode = latency.decode_of(slow, PASSES, answer(20, 2))
    assert decode.over_single_thread == pytest.approx(27)
    told = list(validity.disturbances_of(subject(slow, decode=decode), threads=2))
    assert any("with 2 threads a token took 27.0 times as long as with one" in reason for reason in told)
    faster = latency.decode_of([answer(11, 1.1, threads=2)] * 3, PASSES, answer(20, 2))
    assert not any("times as long" in reason for reason in validity.disturbances_of(subject(slow, decode=faster), 2))


@pytest.mark.parametrize(
    ("rounds", "said"),
    [
        ([answer(20, 2), answer(20, 2), answer(20, 4)], "1 of 3 rounds of tg10 @ d30"),
        ([answer(20, 2), answer(20, 2), answer(50, 2)], "1 of 3 rounds of pp30"),
        ([answer(20, 2, noise=Counters(2, 1.99, 4, 0.5, 0, 400))] * 3, "something waited for a CPU during 25.0 %"),
        ([answer(20, 2, noise=Counters(2, 0.8, 4, 0, 0, 400))] * 3, "was on a CPU 40 %"),
    ],
)
def test_what_disturbs_is_told(rounds: list[SpeedAnswer], said: str) -> None:
    assert any(said in reason for reason in validity.disturbances_of(subject(rounds), threads=1))


def test_another_model_than_the_shipped_one_is_told() -> None:
    faults = list(validity.faults_of(subject(STUDENT), "b" * 64, threads=2))
    assert [fault.partition(": ")[2][:30] for fault in faults] == [
        "ran with 1 threads, and 2 were",
        "the measured file is not the e",
    ]
    other = [answer(20, 2, tops=Tops(TOPS.tokens, [[20.0] * 10 + [20.1]] * 2))] * 3
    assert "other answers" in next(validity.faults_of(subject(other), "a" * 64, threads=1))
    tie = [answer(20, 2, tops=Tops([[2] * 11] * 2, TOPS.logits))]
    assert validity.answers_agree(tie, TOPS), "another token with the same logit is as likely"
    assert not validity.answers_agree([answer(20, 2, tops=Tops([[1]], [[20.0]]))], TOPS)


def test_the_result_says_on_disk_what_it_says_in_memory() -> None:
    named = {"machine": "x86_64", "cpu": "one", "operating_system": "Linux", "target": "host"}
    environment = Environment(
        **named, cpu_features=(), logical_cpus=2, memory_bytes=1, threads=1, versions={}, emulated=False
    )
    whole = DecoderBenchmark(
        splits=("test",),
        conversations=False,
        rounds=3,
        subjects=(subject(STUDENT),),
        waterfall=(),
        student_quality={},
        simulated_quality={},
        environment=environment,
        validity=Validity(valid=True, disturbed=(), wrong=()),
        seconds=1.0,
    )
    assert DecoderBenchmark.model_validate_json(whole.model_dump_json()) == whole
