"""The few lines with which an app loads a language model: stock programs, nothing of ours.

llama-cli has been a chat alone since the end of 2025 (https://github.com/ggml-org/llama.cpp/issues/27214); a document
goes on in llama-completion.
"""

import json
import shlex
from dataclasses import dataclass

from edgedistill.decoder_values import DecoderArtifact, DecoderFile
from edgedistill.report.units import size

_CHAT_SHELL = 'llama-cli -m {file} -c {context} --temp 0 --single-turn{system} -p "a question"\n'
_TEXT_SHELL = 'llama-completion -m {file} -c {context} --temp 0 -no-cnv -n 32 -p "a text to go on from"\n'

_LLAMA = """\
from llama_cpp import Llama

model = Llama("{file}", n_ctx={context}, verbose=False)
"""
_LLAMA_CHAT = """\
said = model.create_chat_completion({messages}, max_tokens=32, temperature=0)
print(said["choices"][0]["message"]["content"])
"""
_LLAMA_TEXT = """\
said = model("a text to go on from", max_tokens=32, temperature=0)
print(said["choices"][0]["text"])
"""

_GENAI = """\
{imports}import onnxruntime_genai as og

model = og.Model("{file}")
tokenizer = og.Tokenizer(model)
{prompt}
params = og.GeneratorParams(model)
params.set_search_options(max_length={context}, do_sample=False)
generator = og.Generator(model, params)
generator.append_tokens(tokenizer.encode(prompt))
stream = tokenizer.create_stream()
while not generator.is_done():
    generator.generate_next_token()
    print(stream.decode(generator.get_next_tokens()[0]), end="", flush=True)
"""
_GENAI_CHAT = """\
messages = json.dumps({messages})
prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True)"""
_GENAI_TEXT = """prompt = "a text to go on from\""""

HOLDS = {
    "gguf": ("file", "with tokenizer and template inside"),
    "onnx_genai": ("folder", "with settings, tokenizer and template inside"),
}
"""What one model of a format is, and what it brings along."""


@dataclass(frozen=True)
class Lines:
    """One way to load a model."""

    title: str  # how it is introduced
    language: str  # of the lines, for a code block
    text: str


def ways(
    artifact: DecoderArtifact, file: DecoderFile, context_tokens: int, *, conversations: bool, system: str | None = None
) -> tuple[Lines, ...]:
    """Return the ways to load a model, to be run in the artifact's folder.

    Args:
        system: what the recipe had said before every conversation; a model that learned under it is asked under it.
    """
    said = [{"role": "system", "content": system}] if system else []
    messages = json.dumps([*said, {"role": "user", "content": "a question"}], ensure_ascii=False)
    if artifact.format == "onnx_genai":
        imports, prompt = (
            ("import json\n\n", _GENAI_CHAT.format(messages=messages)) if conversations else ("", _GENAI_TEXT)
        )
        told = _GENAI.format(imports=imports, file=file.file, prompt=prompt, context=context_tokens)
        return (Lines("In this folder, with onnxruntime-genai", "python", told),)
    given = {"file": file.file, "context": context_tokens}
    shell, python = (_CHAT_SHELL, _LLAMA_CHAT) if conversations else (_TEXT_SHELL, _LLAMA_TEXT)
    return (
        Lines(
            "In this folder, with llama.cpp",
            "sh",
            shell.format(**given, system=f" -sys {shlex.quote(system)}" if system else ""),
        ),
        Lines("With llama-cpp-python", "python", (_LLAMA + python).format(**given, messages=messages)),
    )


def shipping(artifact: DecoderArtifact, file: DecoderFile) -> str:
    """Return what of the artifact's folder goes into an app, and what that weighs with this file."""
    one, inside = HOLDS[artifact.format]
    held = (
        f"one {one} per method; an app ships one of them" if len(artifact.files) > 1 else f"one {one}; an app ships it"
    )
    weight = size(file.size_bytes + file.beside_bytes + artifact.shared_bytes)
    return f"The folder holds {held}, {inside}, and the licence files beside it: {weight} with {file.file}."
