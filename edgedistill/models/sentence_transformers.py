"""The folder layout of sentence-transformers: which steps make a sentence's vector of a model's token vectors.

`modules.json` lists the steps, each with a folder: the encoder itself, the pooling, linear maps, the normalisation.

Source: https://sbert.net/docs/sentence_transformer/usage/custom_models.html
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgedistill.errors import ModelError

MODULES = "modules.json"
SETTINGS = "config_sentence_transformers.json"
READING = "sentence_bert_config.json"
POOLING_FOLDER, DENSE_FOLDER = "1_Pooling", "2_Dense"
IDENTITY = "torch.nn.modules.linear.Identity"

Pooling = Literal["mean", "cls", "max", "mean_sqrt_len_tokens"]
WORDS: Mapping[str, Pooling] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
}
"""What 1_Pooling/config.json calls each way of pooling."""


@dataclass(frozen=True)
class Steps:
    """What follows the encoder."""

    pooling: Pooling
    normalize: bool
    dense: str = ""  # folder of a linear map between pooling and normalisation; empty where there is none


def is_there(folder: Path) -> bool:
    """Whether a folder says how its sentence vectors are made."""
    return (folder / MODULES).is_file()


def read(folder: Path) -> Steps:
    """Return what a folder's modules.json says.

    Raises:
        ModelError: it has steps that are not known here, or in another order, or it is no list of steps.
    """
    try:
        kinds = [(str(step["type"]).rpartition(".")[2], str(step["path"])) for step in _json(folder / MODULES)]
    except (KeyError, TypeError):
        raise ModelError(f"{folder / MODULES} is no list of steps, each with type and path; fetch it again") from None
    names = [kind for kind, _ in kinds]
    if names not in (
        ["Transformer", "Pooling"],
        ["Transformer", "Pooling", "Normalize"],
        ["Transformer", "Pooling", "Dense"],
        ["Transformer", "Pooling", "Dense", "Normalize"],
    ):
        raise ModelError(
            f"{folder / MODULES} has the steps {', '.join(names)}; known are Transformer and Pooling, then perhaps "
            "Dense, then perhaps Normalize"
        )
    where = dict(kinds)
    if where["Transformer"]:
        raise ModelError(
            f"{folder / MODULES} keeps its encoder in {where['Transformer']!r}; put it beside modules.json"
        )
    return Steps(_pooling(folder / where["Pooling"]), "Normalize" in where, where.get("Dense", ""))


def check_used_alike(folder: Path, pooling: Pooling | None) -> None:
    """Check that a teacher's own users read texts and compare vectors as it is done here.

    Args:
        pooling: what the recipe says; None leaves it to the folder.

    Raises:
        ModelError: they pool otherwise, put words before each text, or compare otherwise than by cosine.
    """
    steps = read(folder)
    if pooling not in (None, steps.pooling):
        raise ModelError(f"{folder} pools by {steps.pooling}, and task.pooling says {pooling}; leave task.pooling out")
    settings = _settings(folder / SETTINGS) if (folder / SETTINGS).is_file() else {}
    prompt = (settings.get("prompts") or {}).get(settings.get("default_prompt_name"))
    if prompt:
        raise ModelError(
            f"{folder / SETTINGS} puts {prompt!r} before every text, and texts are read as they are here; write it "
            "before the texts in the data, and null as default_prompt_name"
        )
    compared = settings.get("similarity_fn_name") or "cosine"
    if compared not in ({"cosine", "dot", "euclidean"} if steps.normalize else {"cosine"}):
        raise ModelError(
            f"{folder / SETTINGS} compares vectors by {compared}, and here it is by cosine, which ranks otherwise; "
            "choose a teacher that is compared by cosine"
        )


def lowers_case(folder: Path) -> bool:
    """Whether a folder's own users give texts to the tokenizer in lower case."""
    return (folder / READING).is_file() and bool(_settings(folder / READING).get("do_lower_case"))


def copy(source: Path, target: Path) -> None:
    """Copy the layout around a checkpoint, the linear map among it; nothing where there is none."""
    for file in sorted([*source.glob("[0-9]_*/*"), source / MODULES, source / SETTINGS]):
        if file.is_file():
            (target / file.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target / file.relative_to(source))


def copy_settings(source: Path, target: Path) -> None:
    """Copy what tells how sentence vectors are made, without weights; nothing where there is none."""
    if is_there(source):
        for file in (*source.glob("[0-9]_*/config.json"), source / MODULES):
            (target / file.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target / file.relative_to(source))


def write(folder: Path, steps: Steps, encoder_width: int, width: int) -> None:
    """Write modules.json and the settings of each step; the weights are the caller's.

    Args:
        encoder_width: numbers in the pooled vector.
        width: numbers in the sentence's vector.
    """
    kinds = [("", "Transformer"), (POOLING_FOLDER, "Pooling")]
    pooling = {word: way == steps.pooling for word, way in WORDS.items()}
    _write_json(folder / POOLING_FOLDER / "config.json", {"word_embedding_dimension": encoder_width, **pooling})
    if steps.dense:
        _write_dense(folder / steps.dense, encoder_width, width)
        kinds.append((steps.dense, "Dense"))
    _write_modules(folder, kinds, normalize=steps.normalize)


def write_static(folder: Path, encoder_width: int, width: int) -> None:
    """Write the layout of a table of token vectors, their mean, a linear map, and the normalisation.

    Args:
        encoder_width: numbers in a token's vector.
        width: numbers in the sentence's vector.
    """
    _write_dense(folder / DENSE_FOLDER, encoder_width, width)
    _write_modules(folder, [("", "StaticEmbedding"), (DENSE_FOLDER, "Dense")], normalize=True)


def check_plain(dense: Path, weights: Mapping[str, Any]) -> None:
    """Check that the linear map in the folder `dense` is nothing but a matrix.

    Raises:
        ModelError: it has an offset, or an activation behind it.
    """
    activation = _settings(dense / "config.json").get("activation_function", IDENTITY)
    if activation != IDENTITY or weights.keys() != {"linear.weight"}:
        raise ModelError(
            f"{dense} has the activation {activation.rpartition('.')[2]} and the weights {sorted(weights)}; "
            "known is a matrix alone, linear.weight, with Identity behind it"
        )


def _write_modules(folder: Path, kinds: list[tuple[str, str]], *, normalize: bool) -> None:
    kinds = kinds + ([(f"{len(kinds)}_Normalize", "Normalize")] if normalize else [])
    steps = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds)
    ]
    _write_json(folder / MODULES, steps)
    if normalize:
        (folder / kinds[-1][0]).mkdir(exist_ok=True)
    _write_json(folder / SETTINGS, {"similarity_fn_name": "cosine"})


def _write_dense(folder: Path, encoder_width: int, width: int) -> None:
    settings = {"in_features": encoder_width, "out_features": width, "bias": False, "activation_function": IDENTITY}
    _write_json(folder / "config.json", settings)


def _pooling(folder: Path) -> Pooling:
    settings = _settings(folder / "config.json")
    switched_on = [word for word, on in settings.items() if word.startswith("pooling_mode") and on is True]
    named = settings.get("pooling_mode")  # one word in newer releases, a switch for each way in older ones
    ways = [f"pooling_mode_{named}"] if isinstance(named, str) else switched_on
    found = [WORDS.get(word, WORDS.get(f"{word}_token", WORDS.get(f"{word}_tokens"))) for word in ways]
    if len(found) != 1 or found[0] is None:
        said = ", ".join(word.removeprefix("pooling_mode_") for word in ways) or "nothing"
        raise ModelError(f"{folder / 'config.json'} pools by {said}; known is one of: {', '.join(WORDS.values())}")
    return found[0]


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{file} cannot be read: {error}") from error


def _settings(file: Path) -> dict[str, Any]:
    said = _json(file)
    if not isinstance(said, dict):
        raise ModelError(f"{file} holds a {type(said).__name__}, and must hold an object; fetch it again")
    return said


def _write_json(file: Path, said: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
