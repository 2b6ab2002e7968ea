"""The few lines with which an app loads an artifact: stock libraries, nothing of ours."""

from edgedistill.report.units import size
from edgedistill.values import Artifact, Variant

_LINES = """\
import json, os
os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before the import; leave it out if the runtime may report
import numpy as np, onnxruntime
from tokenizers import Tokenizer

tokenizer = Tokenizer.from_file("tokenizer.json")
tokenizer.enable_truncation(json.load(open("tokenizer_config.json"))["model_max_length"])
session = onnxruntime.InferenceSession("{file}", providers=["CPUExecutionProvider"])

read = tokenizer.encode("a text to classify")
inputs = {{"input_ids": np.array([read.ids]), "attention_mask": np.array([read.attention_mask])}}
logits = session.run(["logits"], {{wanted.name: inputs[wanted.name] for wanted in session.get_inputs()}})[0]
print(json.load(open("config.json"))["id2label"][str(logits[0].argmax())])
"""


def lines(variant: Variant) -> str:
    """Return Python that classifies one text, to be run in the artifact's folder."""
    return _LINES.format(file=variant.file)


def shipping(artifact: Artifact, variant: Variant) -> str:
    """Return what of the artifact's folder goes into an app, and what that weighs with this variant."""
    several = len(artifact.variants) > 1
    held = "one model file per variant; an app ships one of them" if several else "one model file; an app ships it"
    weight = size(variant.size_bytes + artifact.shared_bytes)
    return f"The folder holds {held} beside the tokenizer, config and licence files: {weight} with {variant.file}."
