"""Do artifacts load unchanged in node? `python benchmarks/node_loads.py ARTIFACT [ARTIFACT ...]`.

Installs onnxruntime-node and transformers.js from npm into a temporary folder (about 480 MB, without running any of
their install scripts), and compares with onnxruntime in Python, for every model file of each artifact:

* the token ids of transformers.js's own tokenizer; it cuts a long text after the special tokens were added, so of
  such a text the last id is not compared,
* on those ids, the logits of onnxruntime-node, and of transformers.js told by its word for the file, without network,
* the lines of JavaScript that a model card shows, run as they stand in it.

Prints the largest differences and ends with 1 where one is above the tolerance, a file does not load, or a card shows
no JavaScript.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.export.transformers_js import options_for
from edgedistill.runtimes import onnxruntime

PACKAGES = ("onnxruntime-node", "@huggingface/transformers")
TOLERANCE = 1e-4  # of the largest logit; where activations are rounded on the fly, another build's sums may tip a code
ROUNDED = 0.02
TEXTS = (
    "A touching film, and never a dull one.", "bad", "", " ", "The plot? There is none.", "not good, not bad at all",
    "naïve café, Ünïcödé", "😀 great fun", "你好，世界。", "UPPER lower 1234567890 3.14", "a-b_c/d\\e [MASK] [SEP]",
    "word " * 300,
)  # fmt: skip

SCRIPT = """\
import { readFileSync } from "node:fs";
import { AutoModelForSequenceClassification, AutoTokenizer, env } from "@huggingface/transformers";
import { InferenceSession, Tensor } from "onnxruntime-node";

const { root, texts, files } = JSON.parse(readFileSync(0, "utf8"));
env.allowRemoteModels = false;
env.localModelPath = "/";
const tokenizer = await AutoTokenizer.from_pretrained(root);
const read = texts.map((text) => tokenizer([text], { padding: true, truncation: true }));
const plain = (tensor) => Array.from(tensor.data, Number);
const answers = {};
for (const { file, options } of files) {
  const answer = (answers[file] = { node: [], transformers: [] });
  const session = await InferenceSession.create(`${root}/${file}`);
  const model = await AutoModelForSequenceClassification.from_pretrained(root, options);
  for (const one of read) {
    const inputs = session.inputNames.map((name) => [name, new Tensor("int64", one[name].data, one[name].dims)]);
    answer.node.push(plain((await session.run(Object.fromEntries(inputs))).logits));
    const wanted = Object.fromEntries(session.inputNames.map((name) => [name, one[name]]));
    answer.transformers.push(plain((await model(wanted)).logits));
  }
}
const unnamed = await AutoModelForSequenceClassification.from_pretrained(root);
const first = (await unnamed({ input_ids: read[0].input_ids, attention_mask: read[0].attention_mask })).logits;
console.log(JSON.stringify({ ids: read.map((one) => plain(one.input_ids)), answers, unnamed: plain(first) }));
"""


def install(folder: Path) -> None:
    """Install the packages; none of their scripts is run."""
    command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--silent", *PACKAGES]
    subprocess.run(command, cwd=folder, check=True)


def run(script: str, folder: Path, cwd: Path, given: str = "") -> str:
    """Return what a module of JavaScript prints; packages are looked for in `folder`, files in `cwd`."""
    file = folder / "script.mjs"
    file.write_text(script, encoding="utf-8")
    settings = {**os.environ, "ORT_DISABLE_TELEMETRY": "1"}
    ran = subprocess.run(["node", file], cwd=cwd, input=given, capture_output=True, text=True, env=settings)
    if ran.returncode:
        raise SystemExit(f"{cwd}: node ended with {ran.returncode}: {ran.stderr.strip()[-2000:]}")
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


def checked(root: Path, folder: Path) -> Iterator[tuple[str, bool]]:
    """Yield one line for each model file of an artifact, and whether all is well."""
    longest = json.loads((root / "tokenizer_config.json").read_text(encoding="utf-8"))["model_max_length"]
    files = sorted(file.relative_to(root) for file in root.glob("onnx/*.onnx"))
    wanted = [{"file": file.as_posix(), "options": options_for(file)} for file in files]
    asked = json.dumps({"root": str(root.resolve()), "texts": TEXTS, "files": wanted})
    said: dict[str, Any] = json.loads(run(SCRIPT, folder, root, asked))
    for file in files:
        model = onnxruntime.load(root, str(file), threads=1)
        expected = np.concatenate([model.run(inputs_of(ids)) for ids in said["ids"]])
        odd = [text for text, ids in zip(TEXTS, said["ids"], strict=True) if not same_ids(model, text, ids, longest)]
        answer = said["answers"][file.as_posix()]
        largest = max(1.0, float(np.abs(expected).max()))
        apart = {name: float(np.abs(np.array(answer[name]) - expected).max()) for name in ("node", "transformers")}
        rounded = any("QuantizeLinear" in kernel or "Integer" in kernel or "QuantizeMatMul" in kernel
                      for kernel in model.kernels())  # fmt: skip
        held = not odd and max(apart.values()) <= (ROUNDED if rounded else TOLERANCE) * largest
        unnamed = "  <- loaded where an app names none" if answer["transformers"][0] == said["unnamed"] else ""
        yield (
            f"{file.name:24} {f'other ids of {odd}' if odd else 'ids equal'}  onnxruntime-node {apart['node']:.1e}  "
            f"transformers.js {apart['transformers']:.1e} of {largest:.2f}, {json.dumps(options_for(file))}{unnamed}",
            held,
        )
    card = root / "README.md"
    blocks = lines_of(card.read_text(encoding="utf-8")) if card.exists() else []
    for block in blocks:
        printed = " ".join(run(block, folder, root).split())
        yield f"card: {block.splitlines()[0]} ... printed {printed}", bool(printed)
    if not blocks:
        yield "card: no lines of JavaScript" if card.exists() else "no card, as the report writes it", not card.exists()


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
                print(f"  {'ok  ' if well else 'MISS'} {line}")
                held = held and well
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
