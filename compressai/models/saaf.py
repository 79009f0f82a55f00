# SPDX-License-Identifier: BSD-3-Clause-Clear
"""SAAF: DCAE with global tokens in its attention, and a linear branch beside its transforms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from compressai.layers import ResidualBottleneckBlock, conv1x1, conv3x3
from compressai.layers.attn._remembered import Remembered
from compressai.layers.attn.attention import (
    ShiftedWindows,
    attend_with_bias,
    join_heads,
    masked_bias,
    split_heads,
)
from compressai.layers.attn.windows import relative_position_index
from compressai.models._helpers.auxt import OLP
from compressai.models._helpers.dictionary_transforms import GatedStage
from compressai.models._helpers.sizes import window_size as side_of_window
from compressai.models._helpers.upstream import has_names
from compressai.models._state_dict import entry_size
from compressai.models.dcae import (
    DCAE,
    DCAE_MSE_LOSSES,
    SMALL_DCAE,
    _has_dictionary,
    _is_upstream_layout,  # noqa: F401 (scripts look for it here)
    convert_upstream_dcae_state_dict,
)
from compressai.registry import ModelEntry, at_qualities, register_entry, register_model

__all__ = ["SAAF", "convert_upstream_saaf_state_dict"]

_GLOBAL_SHARE = 0.25
_FREQUENCY_WEIGHTS = (1.0, 0.8, 0.8, 0.6)
_INVERSE_GAIN = 0.1


class CrossSparseWindowAttention(ShiftedWindows):
    """Attention inside windows, blended with attention to tokens that tell of the whole window.

    Channels last. The tokens are trained, and shifted by the mean of the window; attention to them
    has no factor ``1 / sqrt(head_dim)``, as in the authors' program.

    Args:
        dim: channels C.
        head_dim: channels of a head, which divide ``dim``.
        window_size: side of a window.
        num_global_tokens: how many tokens a window has.

    Shape: ``(B, H, W, C)``, input and output alike, any H and W.
    Source: Ma et al. 2026, as :class:`SAAF`.
    """

    relative_position_index: Tensor
    global_alpha: Tensor

    def __init__(
        self, dim: int, head_dim: int, window_size: int, num_global_tokens: int = 2
    ) -> None:
        super().__init__(window_size, 0)
        self.num_heads = dim // head_dim
        self.scale = head_dim**-0.5
        self.embedding_layer = nn.Linear(dim, 3 * dim)
        table = torch.empty((2 * window_size - 1) ** 2, self.num_heads)
        self.relative_position_bias_table = nn.Parameter(nn.init.trunc_normal_(table, std=0.02))
        self.register_buffer("relative_position_index", relative_position_index(window_size))
        tokens = torch.empty(1, num_global_tokens, dim)
        self.global_tokens = nn.Parameter(nn.init.trunc_normal_(tokens, std=0.02))
        self.global_kv = nn.Linear(dim, 2 * dim, bias=False)
        self.linear = nn.Linear(dim, dim)
        self.register_buffer("global_alpha", torch.tensor(_GLOBAL_SHARE))
        self._biases = Remembered()

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.attend(self._attend_inside, x))

    def _attend_inside(self, windows: Tensor, mask: Tensor | None) -> Tensor:
        q, k, v = split_heads(self.embedding_layer(windows), 3, self.num_heads)
        table = self.relative_position_bias_table
        bias = masked_bias(self._biases, self.relative_position_bias, table, mask)
        inside = attend_with_bias(q, k, v, bias, scale=self.scale)
        tokens = self.global_tokens + windows.mean(dim=1, keepdim=True)
        k, v = split_heads(self.global_kv(tokens), 2, self.num_heads)
        globally = join_heads(F.scaled_dot_product_attention(q, k, v, scale=1.0))
        return (1 - self.global_alpha) * inside + self.global_alpha * globally

    def relative_position_bias(self) -> Tensor:
        """What is added to the logits, ``(heads, positions, positions)``."""
        index = self.relative_position_index
        bias = self.relative_position_bias_table.t().index_select(1, index.flatten())
        return bias.view(self.num_heads, *index.shape)


def _frequency_attention(channels: int) -> nn.Sequential:
    hidden = max(channels // 4, 4)
    return nn.Sequential(
        conv1x1(channels, hidden), nn.GELU(), conv1x1(hidden, 4), nn.Softmax(dim=1)
    )


class _AdaptiveFrequencyBlock(nn.Module):
    """A gain for each position, a blend of four trained ones, and a projection of channels."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.freq_attn = _frequency_attention(in_dim)
        self.freq_weights = nn.Parameter(torch.tensor(_FREQUENCY_WEIGHTS))
        self.olp = OLP(in_dim, out_dim)

    def forward(self, x: Tensor) -> Tensor:
        gains = self.freq_weights.exp().view(1, -1, 1, 1)
        gain = (self.freq_attn(x) * gains).sum(dim=1, keepdim=True)
        return _project(self.olp, x * gain)


class _InverseAdaptiveFrequencyBlock(nn.Module):
    """A projection of channels, times 1.025.

    ``freq_attn`` has no influence, since softmax has the mean 1/4 whatever it sees; published
    weights have it. In training it is computed, so that each parameter has a gradient.
    """

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.olp = OLP(in_dim, out_dim)
        self.freq_attn = _frequency_attention(in_dim)

    def forward(self, x: Tensor) -> Tensor:
        projected = _project(self.olp, x)
        if not self.training:
            return projected * (1 + _INVERSE_GAIN / 4)
        return projected * (1 + _INVERSE_GAIN * self.freq_attn(x).mean(dim=1, keepdim=True))


def _project(olp: OLP, x: Tensor) -> Tensor:
    """Apply a projection to the channels of ``(N, C, H, W)``."""
    return F.conv2d(x, olp.linear.weight[:, :, None, None], olp.linear.bias)


def _normalised(channels: int) -> nn.GroupNorm:
    groups = max(count for count in range(1, 9) if channels % count == 0)
    return nn.GroupNorm(groups, channels)


class _DenoisingAsRegularizer(nn.Module):
    """How well noise in a latent can be told from the latent and its side information.

    Training only: coding never calls it.
    """

    def __init__(self, latent_dim: int = 320, hyper_channels: int = 192) -> None:
        super().__init__()
        M, width = latent_dim, max(4 * latent_dim // 5, 4)
        self.time_embed = nn.Sequential(nn.Linear(1, M), nn.SiLU(), nn.Linear(M, M))
        self.noise_predictor = nn.Sequential(
            conv3x3(M, M),
            _normalised(M),
            nn.SiLU(),
            ResidualBottleneckBlock(M, M),
            ResidualBottleneckBlock(M, M),
            conv3x3(M, M),
            _normalised(M),
            nn.SiLU(),
            conv1x1(M, M),
        )
        self.condition_encoder = nn.Sequential(
            conv1x1(hyper_channels, width),
            _normalised(width),
            nn.GELU(),
            conv3x3(width, M),
            nn.Dropout(0.1),
            nn.GELU(),
        )

    def forward(self, y: Tensor, z_hat: Tensor) -> Tensor:
        """Mean squared error of the noise, 0-dimensional.

        Args:
            y: latent ``(N, M, H, W)``.
            z_hat: side information, of any size.
        """
        condition = _resize(self.condition_encoder(z_hat), y)
        # Drawn in this order by these functions: comparisons replace them.
        time = torch.rand(y.size(0), 1, device=y.device, dtype=y.dtype)
        noise = torch.randn_like(y)
        noisy = y + noise * time[:, :, None, None]
        embedded = self.time_embed(time)[:, :, None, None]
        return F.mse_loss(self.noise_predictor(noisy + embedded + condition), noise)


def _resize(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


class _Branched(nn.Sequential):
    """A transform of seven modules with four steps of a linear branch added in between.

    The branch goes on from its own map, resized to that of the transform. It belongs to the model,
    under whose name for it published weights have it: here it is no submodule, but goes with
    copies, pickles and conversions.
    """

    branch: nn.ModuleList

    def __init__(self, transform: nn.Sequential, branch: nn.ModuleList) -> None:
        super().__init__(*transform)
        object.__setattr__(self, "branch", branch)

    def forward(self, x: Tensor) -> Tensor:
        layers = list(self)
        aside = x
        for step, linear in zip((layers[:1], layers[1:3], layers[3:5], layers[5:]), self.branch):
            for layer in step:
                x = layer(x)
            aside = _resize(linear(aside), x)
            x = x + aside
        return x

    def _apply(self, fn: Any, recurse: bool = True) -> _Branched:
        self.branch._apply(fn, recurse)
        return super()._apply(fn, recurse)


@register_model("saaf")
class SAAF(DCAE):
    """DCAE with global tokens in its attention, and a linear branch beside each transform.

    Args: as :class:`~compressai.models.dcae.DCAE`.

    Shape: ``x`` ``(N, 3, H, W)`` in [0, 1]; sides must be multiples of 64.

    Trained as its authors do, the loss has two more terms:
    ``net.diffusion_weight * out["diffusion_loss"]`` of :meth:`forward`, and
    ``0.1 * net.ortho_loss()``. Coding uses neither.

    Attributes:
        diffusion_weight: what ``compressai train`` multiplies the denoising loss with, 0.1 unless
            set. The authors' weight is not published.

    Raises:
        ValueError: as :class:`~compressai.models.dcae.DCAE`.

    Source: Ma et al. 2026, SAAF (CVPR 2026).
    """

    diffusion_weight = 0.1

    _TABLE = "relative_position_bias_table"
    _CONSTANTS = (*DCAE._CONSTANTS, ".global_alpha")

    def __init__(
        self,
        head_dim: Sequence[int] | None = None,
        N: int = 192,
        M: int = 320,
        hyper_channels: int = 192,
        num_slices: int = 5,
        max_support_slices: int = 5,
        feature_dims: Sequence[int] | None = None,
        block_num: Sequence[int] | None = None,
        dict_num: int = 128,
        dict_head_num: int = 20,
        dictionary_dim: int | None = None,
        window_size: int = 8,
        hyper_window_size: int = 4,
        hyper_head_dim: int = 32,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            head_dim,
            N,
            M,
            hyper_channels,
            num_slices,
            max_support_slices,
            feature_dims,
            block_num,
            dict_num,
            dict_head_num,
            dictionary_dim,
            window_size,
            hyper_window_size,
            hyper_head_dim,
            **kwargs,
        )
        widths = (3, *self.feature_dims, M)
        self.aux_enc = nn.ModuleList(_AdaptiveFrequencyBlock(a, b) for a, b in pairwise(widths))
        self.aux_dec = nn.ModuleList(
            _InverseAdaptiveFrequencyBlock(a, b) for a, b in pairwise(widths[::-1])
        )
        self.g_a = _Branched(self.g_a, self.aux_enc)
        self.g_s = _Branched(self.g_s, self.aux_dec)
        self.diffusion_prior = _DenoisingAsRegularizer(M, hyper_channels)

    @staticmethod
    def _stage(dim: int, head_dim: int, blocks: int, window: int) -> nn.Module:
        """Blocks with attention to windows, none shifted, and to global tokens."""
        attentions = [CrossSparseWindowAttention(dim, head_dim, window) for _ in range(blocks)]
        return GatedStage(dim, attentions, window)

    def forward(self, x: Tensor) -> dict[str, Any]:
        """As :meth:`ChannelSliceModel.forward`, with the loss of the denoising regulariser.

        Returns:
            ``{"x_hat", "likelihoods", "diffusion_loss"}``; the last is 0-dimensional, and 0 in
            evaluation mode.
        """
        return super().forward(x)

    def _further_outputs(self, y: Tensor, out: Mapping[str, Any]) -> dict[str, Any]:
        loss = self.diffusion_prior(y, out["z_hat"]) if self.training else y.new_zeros(())
        return {"diffusion_loss": loss}

    @staticmethod
    def convert(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See :func:`convert_upstream_saaf_state_dict`."""
        return convert_upstream_saaf_state_dict(state_dict)

    @classmethod
    def _check_family(cls, state_dict: Mapping[str, Tensor]) -> None:
        """Refuse the weights of DCAE, which have the same names but for these."""
        entry_size(state_dict, "aux_enc.0.freq_weights", 0, cls)

    @staticmethod
    def _read_table(table: Tensor) -> tuple[int, int]:
        return table.size(1), side_of_window(table)


def convert_upstream_saaf_state_dict(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the SAAF authors' program under the names of :class:`SAAF`.

    Args and result as of :func:`~compressai.models.dcae.convert_upstream_dcae_state_dict`, whose
    rules these are; the identity matrices of the projections, which never change, are left out.
    """
    return convert_upstream_dcae_state_dict(state_dict)


# -- rows --------------------------------------------------------------------------------------

register_entry(
    ModelEntry(
        name="saaf",
        model=SAAF,
        summary="DCAE with global tokens in its attention and a linear branch",
        paper="Ma et al. 2026, SAAF (CVPR 2026)",
        sizes=at_qualities((6, {})),
        # The first and the last are known by the names of their files; the others are those of
        # DCAE, next to whose six points SAAF's lie.
        losses={"mse": DCAE_MSE_LOSSES},
        extra="attn",
        small=SMALL_DCAE,
        source="saaf",
        detect=lambda weights: _has_dictionary(weights) and has_names(weights, "aux_enc."),
    )
)
