"""The lines that load a language model compile, name the file, and ask as the model was taught."""

import pytest
from decoder_report_values import evidence
from test_decoder_report import card_of

from edgedistill.report.decoder import loading


@pytest.mark.parametrize("conversations", [False, True])
def test_the_lines_fit_what_the_model_was_taught(conversations: bool) -> None:
    artifact = evidence().artifacts["gguf"]
    file = artifact.files[1]
    shell, python = (one.text for one in loading.ways(artifact, file, 256, conversations=conversations))
    compile(python, "lines", "exec")
    assert ("llama-cli" in shell) == ("create_chat_completion" in python) == conversations
    assert all(str(file.file) in lines and "256" in lines for lines in (shell, python))
    card = card_of(evidence(conversations=conversations))
    assert shell.strip() in card
    assert ("chat template" in card.partition("## Quality")[0]) == conversations


@pytest.mark.parametrize("layout", ["gguf", "onnx_genai"])
def test_a_model_that_learned_under_a_system_message_is_asked_under_it(layout: str) -> None:
    artifact = evidence().artifacts["gguf"].model_copy(update={"format": layout})
    ways = loading.ways(artifact, artifact.files[1], 256, conversations=True, system='Be brief. Say "no idea" {often}.')
    for way in ways:
        if way.language == "python":
            compile(way.text, "lines", "exec")
            assert r'{"role": "system", "content": "Be brief. Say \"no idea\" {often}."}' in way.text
        else:
            assert "-sys 'Be brief. Say \"no idea\" {often}.' -p" in way.text


@pytest.mark.parametrize("conversations", [False, True])
def test_an_onnx_folder_is_loaded_with_onnxruntime_genai(conversations: bool) -> None:
    artifact = evidence().artifacts["gguf"].model_copy(update={"format": "onnx_genai"})
    (way,) = loading.ways(artifact, artifact.files[1], 256, conversations=conversations)
    compile(way.text, "lines", "exec")
    assert "onnxruntime-genai" in way.title
    assert "max_length=256" in way.text
    assert ("apply_chat_template" in way.text) == conversations
    assert "one folder per method" in loading.shipping(artifact, artifact.files[1])
