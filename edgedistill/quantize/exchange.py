"""Exchanging float layers for quantized ones, so that what was decided can be measured before it is exported."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from edgedistill.models.int8_layers import DynamicInt8Linear, Int8Embedding
from edgedistill.models.quantized import replace_module
from edgedistill.quantize.affine import RowQuantized


def exchange(model: Any, quantized: Mapping[str, RowQuantized]) -> None:
    """Exchange the named linear layers and tables of `model`, in place, for quantized ones."""
    for name, rows in quantized.items():
        module, scales = model.get_submodule(name), torch.from_numpy(rows.scales)
        if isinstance(module, nn.Embedding):
            replace_module(model, name, Int8Embedding(torch.from_numpy(rows.codes), scales[:, None].contiguous()))
        else:
            bias = torch.zeros(len(scales)) if module.bias is None else module.bias.detach().clone()
            codes = torch.from_numpy(np.ascontiguousarray(rows.codes.T))
            replace_module(model, name, DynamicInt8Linear(codes, scales, bias))
