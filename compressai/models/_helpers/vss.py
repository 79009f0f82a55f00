# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The transforms that MambaVC and MambaIC share, and their sizes from weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from torch import Tensor, nn

from compressai.layers.ssm import VSSBlock
from compressai.models._helpers.sizes import numbers_after, window_size
from compressai.models._helpers.stochastic_depth import drop_path_rates
from compressai.models._state_dict import entry_size
from compressai.models.utils import conv, deconv

__all__ = [
    "SMALL_VSS",
    "VSSTransforms",
    "attention_sizes",
    "build_vss_transforms",
    "has_scans",
    "vss_sizes",
    "vss_stage",
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


class VSSTransforms(NamedTuple):
    """Transforms and hyper transforms of a model."""

    g_a: nn.Sequential
    g_s: nn.Sequential
    h_a: nn.Sequential
    h_mean_s: nn.Sequential
    h_scale_s: nn.Sequential


def vss_stage(width: int, rates: Sequence[float], block: Mapping[str, Any]) -> list[nn.Module]:
    """Blocks of a stage.

    Args:
        width: channels.
        rates: of stochastic depth, one a block.
        block: arguments of :class:`~compressai.layers.ssm.SS2D`.
    """
    return [VSSBlock(width, rate, nn.LayerNorm, **block) for rate in rates]


def build_vss_transforms(
    depths: Sequence[int],
    drop_path_rate: float,
    N: int,
    M: int,
    hyper_channels: int,
    block: Mapping[str, Any],
) -> VSSTransforms:
    """Make the transforms and hyper transforms.

    ``-> C`` stands for a convolution of stride 2 to C channels, transposed in the syntheses, 5x5
    next to the image and 3x3 elsewhere; ``n V`` for n :class:`~compressai.layers.ssm.VSSBlock`.
    With ``depths = (a, b, c, d)``::

        g_a                  -> 2 N, a V, -> 2 N, b V, -> 2 N, c V, -> M
        g_s                  -> 2 N, c V, -> 2 N, b V, -> 2 N, a V, -> 3
        h_a                  -> 2 N, d V, -> hyper_channels
        h_mean_s, h_scale_s  -> 2 N, d V, -> M

    Args:
        depths: see above.
        drop_path_rate: stochastic depth of the last block, ascending from 0.
        N: half the width of the feature maps.
        M: channels of the latent.
        hyper_channels: channels of ``z``.
        block: arguments of :class:`~compressai.layers.ssm.SS2D`.

    Raises:
        ValueError: not four depths, or a negative one.
    """
    if len(depths) != 4 or min(depths) < 0:
        raise ValueError(f"depths must have four entries, none negative, got {tuple(depths)}")
    a, b, c, d = drop_path_rates(drop_path_rate, depths)
    # Both sides ascend from 0: the synthesis begins with what the analysis ends with.
    s_d, s_c, s_b, s_a = drop_path_rates(drop_path_rate, depths[::-1])

    def stage(rates: Sequence[float]) -> list[nn.Module]:
        return vss_stage(2 * N, rates, block)

    def hyper_synthesis() -> nn.Sequential:
        return nn.Sequential(
            deconv(hyper_channels, 2 * N, kernel_size=3),
            *stage(s_d),
            deconv(2 * N, M, kernel_size=3),
        )

    return VSSTransforms(
        g_a=nn.Sequential(
            conv(3, 2 * N),
            *stage(a),
            conv(2 * N, 2 * N, kernel_size=3),
            *stage(b),
            conv(2 * N, 2 * N, kernel_size=3),
            *stage(c),
            conv(2 * N, M, kernel_size=3),
        ),
        g_s=nn.Sequential(
            deconv(M, 2 * N, kernel_size=3),
            *stage(s_c),
            deconv(2 * N, 2 * N, kernel_size=3),
            *stage(s_b),
            deconv(2 * N, 2 * N, kernel_size=3),
            *stage(s_a),
            deconv(2 * N, 3),
        ),
        h_a=nn.Sequential(
            conv(M, 2 * N, kernel_size=3),
            *stage(d),
            conv(2 * N, hyper_channels, kernel_size=3),
        ),
        h_mean_s=hyper_synthesis(),
        h_scale_s=hyper_synthesis(),
    )


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
    a_b_c, d = (_stages(state_dict, name, model) for name in ("g_a", "latent_codec.h_a"))
    if len(a_b_c) != 3 or len(d) != 1:
        raise ValueError(
            f"this state dict is not of {model.__name__}: it has {len(a_b_c)} and {len(d)} stages "
            "in place of 3 and 1"
        )
    sizes = {
        "depths": (*a_b_c, *d),
        "N": entry_size(state_dict, "g_a.0.weight", 0, model) // 2,
        "M": entry_size(state_dict, "latent_codec.h_a.0.weight", 1, model),
        "hyper_channels": entry_size(
            state_dict, "latent_codec.z.entropy_bottleneck.quantiles", 0, model
        ),
    }
    if blocks:
        first = blocks[0]
        kernel = state_dict.get(f"{first}.op.conv2d.weight")
        inner = entry_size(state_dict, f"{first}.op.out_proj.weight", 1, model)
        sizes["ssm_d_state"] = entry_size(state_dict, f"{first}.op.A_logs", 1, model)
        sizes["ssm_ratio"] = inner / entry_size(state_dict, f"{first}.norm.weight", 0, model)
        sizes["ssm_conv"] = 1 if kernel is None else kernel.size(-1)
    return sizes


def _stages(state_dict: Mapping[str, Tensor], transform: str, model: type) -> list[int]:
    """Numbers of blocks between the convolutions of a transform."""
    places = numbers_after(state_dict, f"{transform}.")
    convolutions = [i for i in places if f"{transform}.{i}.weight" in state_dict]
    return [b - a - 1 for a, b in pairwise(convolutions)]


def attention_sizes(
    state_dict: Mapping[str, Tensor], attention: str, model: type
) -> tuple[int, int, int]:
    """Window, channels of a head and inner width of the :class:`SWAtten` of a name."""
    table = f"{attention}.non_local_block.block_1.msa.attn.relative_position_bias_table"
    heads = entry_size(state_dict, table, 1, model)
    width = entry_size(state_dict, f"{attention}.in_conv.weight", 0, model)
    return window_size(state_dict[table]), width // heads, width
