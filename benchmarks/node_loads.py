"""Do artifacts load unchanged in node? `python benchmarks/node_loads.py ARTIFACT [ARTIFACT ...]`.

Installs onnxruntime-node and transformers.js from npm into a temporary folder (about 480 MB, without running any of
their install scripts), and compares with onnxruntime in Python, for every model file of each artifact:

* the token ids of transformers.js's own tokenizer; it cuts a long text after the special tokens were added, so of
  such a text the last id is not compared; what its loss does to the answer is told without judging,
* on those ids, the logits or sentence vectors of onnxruntime-node, and of transformers.js told by its word for the
  file, without network; of vectors the lowest cosine, too,
* of a classifier, the probability of every label that the pipeline "text-classification" gives: softmax, or where
  several labels may hold a sigmoid of each logit,
* the blocks of JavaScript of the model card, run as they stand in it: what they print against what `edgedistill
  predict` says of the same text with the same file.

Prints the largest differences and ends with 1 where one is above the tolerance, a file does not load, or a card shows
no JavaScript. Of vectors it also tells, without judging, what the pipeline "feature-extraction" gives.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit, softmax

from edgedistill.export.transformers_js import options_for
from edgedistill.predict import Prediction, Predictor
from edgedistill.runtimes import onnxruntime

PACKAGES = ("onnxruntime-node", "@huggingface/transformers")
TOLERANCE = 1e-4  # of the largest number; where activations are rounded on the fly, another build's sums may tip a code
ROUNDED = 0.02
TEXTS = (
    "A touching film, and never a dull one.", "bad", "", " ", "The plot? There is none.", "not good, not bad at all",
    "naïve café, Ünïcödé", "😀 great fun", "你好，世界。", "UPPER lower 1234567890 3.14", "a-b_c/d\\e [MASK] [SEP]",
    "word " * 300,
)  # fmt: skip

SCRIPT = """\
import { readFileSync } from "node:fs";
import { AutoModel, AutoModelForSequenceClassification, AutoTokenizer, env, pipeline } from "@huggingface/transformers";
import { InferenceSession, Tensor } from "onnxruntime-node";

const { root, texts, files, output } = JSON.parse(readFileSync(0, "utf8"));
env.allowRemoteModels = false;
env.localModelPath = "/";
const Model = output === "logits" ? AutoModelForSequenceClassification : AutoModel;
const tokenizer = await AutoTokenizer.from_pretrained(root);
const read = texts.map((text) => tokenizer([text], { padding: true, truncation: true }));
const plain = (tensor) => Array.from(tensor.data, Number);

async function piped(options) {
  if (output === "logits") {
    const classify = await pipeline("text-classification", root, options);
    const said = [];
    for (const text of texts) said.push(await classify(text, { top_k: null }));
    return said.map((one) => Object.fromEntries(one.map(({ label, score }) => [label, score])));
  }
  const extract = await pipeline("feature-extraction", root, options);
  return (await extract(texts[0]))?.dims ?? null;
}

const answers = {};
for (const { file, options } of files) {
  const answer = (answers[file] = { node: [], transformers: [] });
  const session = await InferenceSession.create(`${root}/${file}`);
  const model = await Model.from_pretrained(root, options);
  for (const one of read) {
    const inputs = session.inputNames.map((name) => [name, new Tensor("int64", one[name].data, one[name].dims)]);
    answer.node.push(plain((await session.run(Object.fromEntries(inputs)))[output]));
    const wanted = Object.fromEntries(session.inputNames.map((name) => [name, one[name]]));
    answer.transformers.push(plain((await model(wanted))[output]));
  }
  answer.pipeline = await piped(options);
}
const unnamed = await Model.from_pretrained(root);
const first = (await unnamed({ input_ids: read[0].input_ids, attention_mask: read[0].attention_mask }))[output];
console.log(JSON.stringify({ ids: read.map((one) => plain(one.input_ids)), answers, unnamed: plain(first) }));
"""

PRINTED = """\
const whole = (_, value) => (ArrayBuffer.isView(value) ? Array.from(value, Number) : value);
console.log = (...words) => process.stdout.write(JSON.stringify(words, whole) + "\\n");
"""
"""Loaded before a card's block: what it prints is written whole, as JSON; node itself shows 100 numbers of a list."""


def install(folder: Path) -> None:
    """Install the packages; none of their scripts is run."""
    command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--silent", *PACKAGES]
    subprocess.run(command, cwd=folder, check=True)


def run(script: str, folder: Path, cwd: Path, given: str = "", before: str = "") -> str:
    """Return what a module of JavaScript prints; packages are looked for in `folder`, files in `cwd`.

    Args:
        given: what it reads from its standard input.
        before: another module, to be loaded first.

    Raises:
        RuntimeError: it failed.
    """
    for name, text in (("before.mjs", before), ("script.mjs", script)):
        (folder / name).write_text(text, encoding="utf-8")
    command = ["node", "--import", (folder / "before.mjs").resolve().as_uri(), str((folder / "script.mjs").resolve())]
    settings = {**os.environ, "ORT_DISABLE_TELEMETRY": "1"}
    ran = subprocess.run(command, cwd=cwd, input=given, capture_output=True, text=True, env=settings)
    if ran.returncode:
        raise RuntimeError(f"node ended with {ran.returncode}: {ran.stderr.strip()[-2000:]}")
    return ran.stdout


def lines_of(card: str) -> list[str]:
    """Return the blocks of JavaScript in a model card."""
    return re.findall(r"```js\n(.*?)```", card, flags=re.DOTALL)


def inputs_of(ids: list[int]) -> dict[str, np.ndarray]:
    """Return the inputs of one text with these token ids."""
    given = np.array([ids], dtype=np.int64)
    return {"input_ids": given, "attention_mask": np.ones_like(given)}


def same_ids(model: Any, text: str, ids: list[int], longest: int) -> bool:
    """Whether transformers.js reads a text as Python does; the last id of a text that was cut is left out."""
    expected: list[int] = model.encode([text])["input_ids"][0].tolist()
    compared = longest - 1 if len(expected) == longest else longest
    return len(expected) == len(ids) and expected[:compared] == ids[:compared]


def cut(model: Any, answer: dict[str, Any], longest: int) -> str:
    """Return what the lost last token of a cut text does to its answer; empty where no text was cut."""
    alone = {place: model.encode([text]) for place, text in enumerate(TEXTS)}
    long = [place for place, one in alone.items() if one["input_ids"].shape[1] == longest]
    if not long:
        return ""
    ours = np.concatenate([model.run(alone[place]) for place in long]).astype(np.float64)
    theirs = np.array([answer["transformers"][place] for place in long])
    if not model.labels:
        return f"  a cut text: cosine {lowest_cosine(ours, theirs):.4f}"
    apart = np.abs(probabilities(model, ours) - probabilities(model, theirs)).max()
    return f"  a cut text: probability {apart:.1e} apart"


def rounds(model: Any) -> bool:
    """Whether a file rounds activations on the fly."""
    return any(word in kernel for kernel in model.kernels() for word in ("QuantizeLinear", "Integer", "QuantizeMatMul"))


def probabilities(model: Any, outputs: np.ndarray) -> np.ndarray:
    """Return the probability of each label, (texts, labels), of logits."""
    likely: np.ndarray = expit(outputs) if model.several else softmax(outputs, axis=1)
    return likely


def lowest_cosine(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Return the lowest cosine of two vectors of one text; a vector of nothing, as of no word, must be so in both."""
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    there = lengths > 0
    if not np.array_equal(ours[~there], theirs[~there]):
        return -1.0
    return float(((ours * theirs).sum(axis=1)[there] / lengths[there]).min())


@dataclass(frozen=True)
class Compared:
    """What one model file says in node."""

    said: str
    held: bool


def compared_in_outputs(model: Any, answer: dict[str, Any], expected: np.ndarray) -> Compared:
    """Compare logits or vectors with onnxruntime's in Python, on the same ids."""
    largest = float(np.abs(expected).max())
    allowed = (ROUNDED if rounds(model) else TOLERANCE) * largest
    words, held = [], True
    for name, title in (("node", "onnxruntime-node"), ("transformers", "transformers.js")):
        given = np.array(answer[name], dtype=np.float64)
        apart = float(np.abs(given - expected).max())
        held = held and apart <= allowed
        cosine = "" if model.labels else f" (lowest cosine {lowest_cosine(expected.astype(np.float64), given):.7f})"
        words.append(f"{title} {apart:.1e}{cosine}")
    return Compared(f"{'  '.join(words)} of {largest:.2f}", held)


def compared_in_pipeline(model: Any, answer: dict[str, Any], expected: np.ndarray) -> Compared:
    """Compare the pipeline's probability of every label; of vectors, tell only what the pipeline gives."""
    if not model.labels:
        return Compared(f"feature-extraction gives {json.dumps(answer['pipeline'])}", True)
    given = np.array([[said.get(label, np.nan) for label in model.labels] for said in answer["pipeline"]])
    apart = float(np.abs(given - probabilities(model, expected)).max())
    held = apart <= (ROUNDED if rounds(model) else TOLERANCE)  # false where a label is missing
    return Compared(f"{'sigmoid' if model.several else 'softmax'} of each label {apart:.1e}", held)


def checked_files(root: Path, folder: Path, files: list[Path]) -> Iterator[tuple[str, bool]]:
    """Yield one line for each model file of an artifact, and whether all is well."""
    longest = json.loads((root / "tokenizer_config.json").read_text(encoding="utf-8"))["model_max_length"]
    models = {file: onnxruntime.load(root, str(file), threads=1) for file in files}
    wanted = [{"file": file.as_posix(), "options": options_for(file)} for file in files]
    output = "logits" if models[files[0]].labels else "sentence_embedding"
    asked = json.dumps({"root": str(root.resolve()), "texts": TEXTS, "files": wanted, "output": output})
    said: dict[str, Any] = json.loads(run(SCRIPT, folder, root, asked))
    for file, model in models.items():
        expected = np.concatenate([model.run(inputs_of(ids)) for ids in said["ids"]])
        odd = [text for text, ids in zip(TEXTS, said["ids"], strict=True) if not same_ids(model, text, ids, longest)]
        answer = said["answers"][file.as_posix()]
        outputs = compared_in_outputs(model, answer, expected)
        piped = compared_in_pipeline(model, answer, expected)
        ids = f"other ids of {odd}" if odd else "ids equal"
        lost = cut(model, answer, longest)
        unnamed = "  <- loaded where an app names none" if answer["transformers"][0] == said["unnamed"] else ""
        options = json.dumps(options_for(file))
        yield (
            f"{file.name:24} {ids}  {outputs.said}  {piped.said}{lost}, {options}{unnamed}",
            not odd and outputs.held and piped.held,
        )


def file_in(block: str, files: list[Path]) -> Path:
    """Return the model file that a card's block loads: by its name, or by the words of transformers.js for it."""
    for file in files:
        if f'"{file.as_posix()}"' in block:
            return file
    told = {file: [f'{name}: "{word}"' for name, word in options_for(file).items()] for file in files}
    named = [file for file in files if all(words in block for words in told[file])]
    return max(named, key=lambda file: len(told[file]))


def numbers_in(printed: list[Any]) -> list[float]:
    """Return the longest list of numbers in what was printed; none where there is only a shape."""
    lists = [one for one in printed if isinstance(one, list) and all(isinstance(n, int | float) for n in one)]
    return max(lists[1:], key=len, default=[])


def off_prediction(model: Any, printed: list[Any], predicted: Prediction) -> float:
    """Return the largest difference between what a block printed and what `predict` says; inf where it cannot be told.

    A block prints either labels with their scores, or the shape and the numbers of the output.
    """
    first = printed[0] if printed else None
    if isinstance(first, list) and first and isinstance(first[0], dict):
        scores = {said["label"]: said["score"] for said in first}
        complete = scores.keys() == (predicted.probabilities.keys() if model.several else {predicted.label})
        return max(abs(scores[name] - predicted.probabilities[name]) for name in scores) if complete else float("inf")
    given = np.array(numbers_in(printed), dtype=np.float64)
    if model.labels and given.size:
        given = probabilities(model, given[None])[0]
    expected = np.array(list(predicted.probabilities.values()) if model.labels else predicted.vector)
    same = first == [1, len(expected)] and given.shape == expected.shape
    return float(np.abs(given - expected).max()) if same else float("inf")


def checked_card(root: Path, folder: Path, files: list[Path]) -> Iterator[tuple[str, bool]]:
    """Yield one line for each block of JavaScript in an artifact's card, and whether it prints what `predict` says."""
    card = root / "README.md"
    blocks = lines_of(card.read_text(encoding="utf-8")) if card.exists() else []
    if not blocks:
        yield "card: no lines of JavaScript" if card.exists() else "no card, as the report writes it", not card.exists()
    for block in blocks:
        file = file_in(block, files)
        model = onnxruntime.load(root, str(file), threads=1)
        (text,) = re.findall(r'"(a text to [^"]+)"', block)
        word = file.stem.removeprefix("model").removeprefix("_") or "float32"
        apart, printed = float("inf"), ""
        try:
            printed = run(block, folder, root, before=PRINTED)
            apart = off_prediction(model, json.loads(printed), Predictor(root, word).predict(text))
        except (RuntimeError, ValueError) as error:
            printed = printed or str(error)
        held = apart <= (ROUNDED if rounds(model) else TOLERANCE)
        shown = printed.strip() if len(printed) < 160 else f"{printed.strip()[:120]} ..."
        title = "onnxruntime-node" if "onnxruntime-node" in block else "transformers.js"
        yield f"card, {title}, {file.name}: {apart:.1e} off predict, printed {shown}", held


def checked(root: Path, folder: Path) -> Iterator[tuple[str, bool]]:
    """Yield what is said of an artifact's files and card, each with whether all is well."""
    files = sorted(file.relative_to(root) for file in root.glob("onnx/*.onnx"))
    try:
        yield from checked_files(root, folder, files)
    except RuntimeError as error:
        yield f"files: {error}", False
    yield from checked_card(root, folder, files)


def main() -> int:
    """Check every artifact; 0 where all of them load and agree."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("artifacts", nargs="+", type=Path)
    parser.add_argument("--packages", type=Path, help="a folder where they are installed already")
    given = parser.parse_args()
    held = True
    with tempfile.TemporaryDirectory() as made:
        folder = given.packages or Path(made)
        if given.packages is None:
            install(folder)
        versions = [json.loads((folder / "node_modules" / name / "package.json").read_text())["version"]
                    for name in PACKAGES]  # fmt: skip
        print(", ".join(f"{name} {version}" for name, version in zip(PACKAGES, versions, strict=True)))
        for root in given.artifacts:
            print(root)
            for line, well in checked(root, folder):
                print(f"  {'ok  ' if well else 'MISS'} {line}", flush=True)
                held = held and well
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
