"""The few lines with which an app loads an artifact: stock libraries, nothing of ours."""

from edgedistill.export import transformers_js
from edgedistill.report.units import size
from edgedistill.values import Artifact, Variant

_PYTHON = """\
import json, os
os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before the import; leave it out if the runtime may report
import numpy as np, onnxruntime
from tokenizers import Tokenizer

tokenizer = Tokenizer.from_file("tokenizer.json")
tokenizer.enable_truncation(json.load(open("tokenizer_config.json"))["model_max_length"])
session = onnxruntime.InferenceSession("{file}", providers=["CPUExecutionProvider"])

read = tokenizer.encode("{text}")
inputs = {{"input_ids": np.array([read.ids]), "attention_mask": np.array([read.attention_mask])}}
{output} = session.run(["{output}"], {{wanted.name: inputs[wanted.name] for wanted in session.get_inputs()}})[0]
{use}
"""

_LLAMA_CPP = """\
from llama_cpp import Llama

model = Llama("{file}", embedding=True, n_ctx=0, verbose=False)
print(model.embed("a text to search with", normalize=True))
"""

_TRANSFORMERS_JS = """\
import {{ env, pipeline }} from "@huggingface/transformers";

env.allowRemoteModels = false;
env.localModelPath = "./";  // a browser: the URL of the folder that holds this one, and below this one's name for "."

const classify = await pipeline("text-classification", ".", {options});
console.log(await classify("a text to classify"{every_label}));
"""

_VECTORS_JS = """\
import {{ AutoModel, AutoTokenizer, env }} from "@huggingface/transformers";

env.allowRemoteModels = false;
env.localModelPath = "./";  // a browser: the URL of the folder that holds this one, and below this one's name for "."

const tokenizer = await AutoTokenizer.from_pretrained(".");
const model = await AutoModel.from_pretrained(".", {options});
const read = tokenizer(["a text to search with"], {{ padding: true, truncation: true }});
const {{ sentence_embedding }} = await model(read);
console.log(sentence_embedding.dims, sentence_embedding.data);
"""

_NODE = """\
import {{ AutoTokenizer, env }} from "@huggingface/transformers";
import {{ InferenceSession, Tensor }} from "onnxruntime-node";

env.allowRemoteModels = false;
env.localModelPath = "./";

const tokenizer = await AutoTokenizer.from_pretrained(".");
const session = await InferenceSession.create("{file}");

const read = tokenizer(["{text}"], {{ padding: true, truncation: true }});
const inputs = session.inputNames.map((name) => [name, new Tensor("int64", read[name].data, read[name].dims)]);
const {{ {output} }} = await session.run(Object.fromEntries(inputs));
console.log({output}.dims, {output}.data);
"""

_WORDS = {
    "text_classification": {
        "output": "logits", "text": "a text to classify",
        "use": 'print(json.load(open("config.json"))["id2label"][str(logits[0].argmax())])'
    },
    "multi_label_classification": {
        "output": "logits", "text": "a text to classify",
        "use": 'names = json.load(open("config.json"))["id2label"]\n'
               "print([names[str(i)] for i in (logits[0] > 0).nonzero()[0]])"
    },
    "sentence_embedding": {
        "output": "sentence_embedding", "text": "a text to search with", "use": "print(sentence_embedding.shape)"
    },
}  # fmt: skip
"""What the lines of each task say."""


def on_llama_cpp(variant: Variant) -> bool:
    """Whether llama.cpp runs the file, and not onnxruntime."""
    return variant.file.suffix == ".gguf"


def libraries(variant: Variant) -> str:
    """Return what the lines import, in words."""
    return "llama-cpp-python alone" if on_llama_cpp(variant) else "onnxruntime and tokenizers alone"


def lines(variant: Variant, task: str) -> str:
    """Return Python that classifies one text, or gives its vector, to be run in the artifact's folder."""
    if on_llama_cpp(variant):
        return _LLAMA_CPP.format(file=variant.file)
    return _PYTHON.format(file=variant.file, **_WORDS[task])


def transformers_js_lines(variant: Variant, task: str) -> str:
    """Return JavaScript that does so with transformers.js; empty where that has no runtime for the file."""
    if on_llama_cpp(variant):
        return ""
    template = _VECTORS_JS if task == "sentence_embedding" else _TRANSFORMERS_JS
    every_label = ", { top_k: null }" if task == "multi_label_classification" else ""  # not the likeliest alone
    return template.format(options=transformers_js_options(variant), every_label=every_label)


def node_lines(variant: Variant, task: str) -> str:
    """Return JavaScript that runs the file itself with onnxruntime-node, and only reads texts with transformers.js."""
    if on_llama_cpp(variant):
        return ""
    return _NODE.format(file=variant.file, **_WORDS[task])


def transformers_js_options(variant: Variant) -> str:
    """Return what transformers.js is told to load this file, as JavaScript; empty where it cannot."""
    if on_llama_cpp(variant):
        return ""
    told = ", ".join(f'{name}: "{word}"' for name, word in transformers_js.options_for(variant.file).items())
    return f"{{ {told} }}"


def shipping(artifact: Artifact, variant: Variant) -> str:
    """Return what of the artifact's folder goes into an app, and what that weighs with this variant."""
    several = len(artifact.variants) > 1
    held = "one model file per variant; an app ships one of them" if several else "one model file; an app ships it"
    weight = size(variant.size_bytes + artifact.shared_bytes)
    return f"The folder holds {held} beside the tokenizer, config and licence files: {weight} with {variant.file}."
