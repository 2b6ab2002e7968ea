"""The few lines with which an app loads a language model: stock programs, nothing of ours.

llama-cli has been a chat alone since the end of 2025 (https://github.com/ggml-org/llama.cpp/issues/27214); a document
goes on in llama-completion.
"""

from edgedistill.decoder_values import DecoderArtifact, DecoderFile
from edgedistill.report.units import size

_CHAT_SHELL = 'llama-cli -m {file} -c {context} --temp 0 --single-turn -p "a question"\n'
_TEXT_SHELL = 'llama-completion -m {file} -c {context} --temp 0 -no-cnv -n 32 -p "a text to go on from"\n'

_LOAD = """\
from llama_cpp import Llama

model = Llama("{file}", n_ctx={context}, verbose=False)
"""
_CHAT_PYTHON = """\
said = model.create_chat_completion([{{"role": "user", "content": "a question"}}], max_tokens=32, temperature=0)
print(said["choices"][0]["message"]["content"])
"""
_TEXT_PYTHON = """\
said = model("a text to go on from", max_tokens=32, temperature=0)
print(said["choices"][0]["text"])
"""


def shell_lines(file: DecoderFile, context_tokens: int, *, conversations: bool) -> str:
    """Return the command of llama.cpp's own programs, to be run in the artifact's folder."""
    return (_CHAT_SHELL if conversations else _TEXT_SHELL).format(file=file.file, context=context_tokens)


def python_lines(file: DecoderFile, context_tokens: int, *, conversations: bool) -> str:
    """Return Python with llama-cpp-python that does the same."""
    used = _CHAT_PYTHON if conversations else _TEXT_PYTHON
    return (_LOAD + used).format(file=file.file, context=context_tokens)


def shipping(artifact: DecoderArtifact, file: DecoderFile) -> str:
    """Return what of the artifact's folder goes into an app, and what that weighs with this file."""
    held = "one file per method; an app ships one of them" if len(artifact.files) > 1 else "one file; an app ships it"
    weight = size(file.size_bytes + artifact.shared_bytes)
    return (
        f"The folder holds {held}, with tokenizer and template inside, and the licence files beside it: "
        f"{weight} with {file.file}."
    )
