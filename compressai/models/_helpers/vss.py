# SPDX-License-Identifier: BSD-3-Clause-Clear
"""What MambaVC and MambaIC read off weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from compressai.layers.ssm import infer_vss_block_kwargs, infer_vss_depths
from compressai.models._helpers.sizes import window_size
from compressai.models._state_dict import entry_size

__all__ = [
    "SMALL_VSS",
    "attention_sizes",
    "has_scans",
    "vss_sizes",
]

SMALL_VSS: Mapping[str, Any] = {
    "depths": (1, 0, 2, 1),
    "drop_path_rate": 0.0,
    "N": 8,
    "M": 24,
    "hyper_channels": 12,
    "num_slices": 3,
    "max_support_slices": 1,
    "window_size": 4,
    "support_head_dim": 4,
    "support_attention_dim": 8,
    "ssm_d_state": 4,
    "ssm_ratio": 1.5,
}
"""Arguments of either model that make it small enough for tests."""


def has_scans(state_dict: Mapping[str, Tensor]) -> bool:
    """Whether weights, in whatever layout, have blocks with scans in their analysis."""
    return any(key.startswith("g_a.") and key.endswith(".op.A_logs") for key in state_dict)


def vss_sizes(state_dict: Mapping[str, Tensor], model: type) -> dict[str, Any]:
    """Sizes of the transforms that native weights are of, as arguments of the models.

    Raises:
        ValueError: the weights are of another model; those of a later block of VMamba, which has a
            feed-forward network, are told so.
    """
    blocks = [key.removesuffix(".op.A_logs") for key in state_dict if key.endswith(".op.A_logs")]
    later = [name for name in (f"{b}.norm2.weight" for b in blocks) if name in state_dict]
    if later:
        raise ValueError(
            f"this state dict is not of {model.__name__}: its blocks have a feed-forward network, "
            f"as in {later[0]}"
        )
    try:
        depths, block = infer_vss_depths(state_dict), infer_vss_block_kwargs(state_dict)
    except ValueError as error:
        raise ValueError(f"this state dict is not of {model.__name__}: {error}") from error
    sizes = {
        "depths": depths,
        "N": entry_size(state_dict, "g_a.0.weight", 0, model) // 2,
        "M": entry_size(state_dict, "latent_codec.h_a.0.weight", 1, model),
        "hyper_channels": entry_size(
            state_dict, "latent_codec.z.entropy_bottleneck.quantiles", 0, model
        ),
    }
    return {**sizes, **(block if blocks else {})}


def attention_sizes(
    state_dict: Mapping[str, Tensor], attention: str, model: type
) -> tuple[int, int, int]:
    """Window, channels of a head and inner width of the :class:`SWAtten` of a name."""
    table = f"{attention}.non_local_block.block_1.msa.attn.relative_position_bias_table"
    heads = entry_size(state_dict, table, 1, model)
    width = entry_size(state_dict, f"{attention}.in_conv.weight", 0, model)
    return window_size(state_dict[table]), width // heads, width
