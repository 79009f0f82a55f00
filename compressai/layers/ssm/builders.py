# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The transforms that MambaVC and MambaIC share, made of blocks and convolutions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import nn

from compressai.layers.resampling import conv, deconv
from compressai.layers.residual import conv3x3
from compressai.layers.ssm.blocks import VSSBlock
from compressai.layers.stochastic_depth import drop_path_rates

__all__ = ["VSSTransforms", "build_vss_backbone", "build_vss_context_stage"]

# Names of the authors' programs for arguments of SS2D.
_AUTHORS_NAMES = {
    "ssm_act_layer": "act_layer",
    "ssm_conv": "d_conv",
    "ssm_conv_bias": "conv_bias",
    "ssm_d_state": "d_state",
    "ssm_drop_rate": "dropout",
    "ssm_dt_rank": "dt_rank",
    "ssm_init": "initialize",
}


class VSSTransforms(NamedTuple):
    """Transforms and hyper transforms of a model."""

    g_a: nn.Sequential
    g_s: nn.Sequential
    h_a: nn.Sequential
    h_mean_s: nn.Sequential
    h_scale_s: nn.Sequential


def build_vss_backbone(
    depths: Sequence[int],
    drop_path_rate: float,
    N: int,
    M: int,
    hyper_channels: int = 192,
    **vss_kwargs: Any,
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
        vss_kwargs: arguments of :class:`~compressai.layers.ssm.SS2D`, also by the names of the
            authors' programs: ``ssm_d_state``, ``ssm_conv``, ``ssm_act_layer``, ``ssm_conv_bias``,
            ``ssm_drop_rate``, ``ssm_dt_rank``, ``ssm_init``.

    Returns:
        ``(g_a, g_s, h_a, h_mean_s, h_scale_s)``.

    Raises:
        TypeError: an argument is not one of a block, or given by both names.
        ValueError: not four depths, or a negative one.

    Source: Qin et al. 2024, "MambaVC: learned visual compression with selective state spaces".
    """
    if len(depths) != 4 or min(depths) < 0:
        raise ValueError(f"depths must have four entries, none negative, got {tuple(depths)}")
    block = _block_arguments(vss_kwargs)
    a, b, c, d = drop_path_rates(drop_path_rate, depths)
    # Both sides ascend from 0: the synthesis begins with what the analysis ends with.
    s_d, s_c, s_b, s_a = drop_path_rates(drop_path_rate, depths[::-1])

    def stage(rates: Sequence[float]) -> list[nn.Module]:
        return _stage(2 * N, rates, block)

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


def build_vss_context_stage(
    rates: Sequence[float], width: int, out_channels: int, **vss_kwargs: Any
) -> nn.Sequential:
    """Make the context of a slice: blocks, then a 3x3 convolution.

    Args:
        rates: of stochastic depth, one a block.
        width: channels of input and blocks.
        out_channels: what the convolution gives.
        vss_kwargs: as of :func:`build_vss_backbone`.

    Raises:
        TypeError: as :func:`build_vss_backbone`.

    Source: Zeng et al. 2025, "MambaIC: state space models for high-performance learned image
    compression".
    """
    blocks = _stage(width, rates, _block_arguments(vss_kwargs))
    return nn.Sequential(*blocks, conv3x3(width, out_channels))


def _stage(width: int, rates: Sequence[float], block: Mapping[str, Any]) -> list[nn.Module]:
    return [VSSBlock(width, rate, nn.LayerNorm, **block) for rate in rates]


def _block_arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of SS2D, by its own names."""
    twice = [f"{k} and {v}" for k, v in _AUTHORS_NAMES.items() if k in given and v in given]
    if twice:
        raise TypeError(f"got {twice[0]}, which are one argument")
    return {_AUTHORS_NAMES.get(name, name): value for name, value in given.items()}
