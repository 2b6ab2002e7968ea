"""How onnxruntime-genai's builder calls the tensors of a checkpoint, and how it lays them out.

Source: https://github.com/microsoft/onnxruntime-genai/blob/main/src/python/py/models/builders/base.py
"""

import re
from collections.abc import Collection

TABLE, HEAD = "model.embed_tokens.weight", "lm_head.weight"
_ATTENTION = re.compile(r"model\.layers\.(\d+)\.attn\.(qkv|q|k|v|o)_proj\.(MatMul|Add)\.(weight|bias)")
_MLP = re.compile(r"model\.layers\.(\d+)\.mlp\.(gate|up|down)_proj\.(MatMul|Add)\.(weight|bias)")
_HEAD_NORM = re.compile(r"model\.layers\.(\d+)\.attn\.([qk]_norm)\.layernorm\.weight")
_FINAL_NORM = re.compile(r"model\.layers\.\d+\.final_norm_layernorm\.weight")
MADE_BY_THE_BUILDER = re.compile(r"(cos|sin)_cache(_local|_global)?|/model/constants/.*")
"""Angles of positions, shapes: what no checkpoint holds."""


def checkpoint_names(called: str, known: Collection[str]) -> tuple[str, ...]:
    """Return the checkpoint's tensors whose rows, one after another, an initializer holds; none where it is unknown.

    Args:
        called: the initializer's name.
        known: the checkpoint's tensors; a table that is the head too stands there once.
    """
    names: tuple[str, ...] = (called,)
    if found := _ATTENTION.fullmatch(called):
        layer, parts, _, kind = found.groups()
        names = tuple(f"model.layers.{layer}.self_attn.{part}_proj.{kind}" for part in parts)
    elif found := _MLP.fullmatch(called):
        names = (f"model.layers.{found[1]}.mlp.{found[2]}_proj.{found[4]}",)
    elif found := _HEAD_NORM.fullmatch(called):
        names = (f"model.layers.{found[1]}.self_attn.{found[2]}.weight",)
    elif _FINAL_NORM.fullmatch(called):
        names = ("model.norm.weight",)
    elif called == "lm_head.MatMul.weight":
        names = (HEAD if HEAD in known else TABLE,)
    return names if all(name in known for name in names) else ()
