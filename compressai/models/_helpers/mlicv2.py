# SPDX-License-Identifier: BSD-3-Clause-Clear
"""What MLICv2 has besides the networks of MLIC++: token mixing, refined contexts, skipping."""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from compressai.layers import conv1x1, conv3x3
from compressai.layers.naf import LayerNorm2d
from compressai.models._helpers.mlic import AnalysisTransform, SynthesisTransform
from compressai.models._helpers.mlic.context import (
    check_heads,
    depthwise,
    linear_attention,
    projections,
)
from compressai.models._helpers.mlic.utils import checkerboard_split

__all__ = [
    "ContextReweighting",
    "GSCModule",
    "HGCPModule",
    "RefinedContext",
    "RoPE2D",
    "STMAnalysis",
    "STMSynthesis",
    "SimpleTokenMixing",
]

STEPS = ("anchor", "non_anchor")


def _gating(dim: int) -> nn.Sequential:
    return nn.Sequential(
        LayerNorm2d(dim),
        conv1x1(dim, dim),
        nn.GELU(),
        depthwise(dim),
        nn.GELU(),
        conv1x1(dim, dim),
    )


class _ContextGate(nn.Module):
    """Weights each value of a context, from its neighbours."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.net = _gating(dim)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.net(x))


class _TransformGate(nn.Module):
    """The same in the transforms."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gate = _gating(dim)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.gate(x))


# -- transforms -----------------------------------------------------------------------------------


class _DepthwiseResidual(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.block = nn.Sequential(depthwise(dim), nn.GELU(), conv1x1(dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        return x + F.gelu(self.block(x))


class SimpleTokenMixing(nn.Module):
    """Mixes positions by depthwise convolutions, then gates.

    Shape: ``(N, dim, H, W)``, input and output alike.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm1 = LayerNorm2d(dim)
        self.token_mixer = nn.Sequential(
            _DepthwiseResidual(dim), depthwise(dim, kernel_size=5), conv1x1(dim, dim)
        )
        self.norm2 = LayerNorm2d(dim)
        self.gate = _TransformGate(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.token_mixer(self.norm1(x))
        return x + self.gate(self.norm2(x))


def _mixers(dim: int) -> nn.Sequential:
    return nn.Sequential(SimpleTokenMixing(dim), SimpleTokenMixing(dim))


class STMAnalysis(AnalysisTransform):
    """As the base class, with token mixing in place of residual blocks."""

    def __init__(self, N: int, M: int) -> None:
        super().__init__(N, M)
        for place in (1, 3, 5):
            self.analysis_transform[place] = _mixers(N)


class STMSynthesis(SynthesisTransform):
    """As the base class, with token mixing in place of residual blocks."""

    def __init__(self, N: int, M: int) -> None:
        super().__init__(N, M)
        for place, width in ((0, M), (2, N), (4, N), (6, N)):
            self.synthesis_transform[place] = _mixers(width)


# -- contexts -------------------------------------------------------------------------------------


class RoPE2D(nn.Module):
    """Rotates pairs of channels by angles that tell row and column.

    Args:
        dim: number of channels, even.
        learnable_thetas: learn the bases of the frequencies, which are 10000 at first.

    Raises:
        ValueError: odd ``dim``.

    Source: Su et al. 2021, "RoFormer: enhanced transformer with rotary position embedding", for
    two dimensions.
    """

    def __init__(self, dim: int, learnable_thetas: bool = True) -> None:
        super().__init__()
        if dim < 2 or dim % 2:
            raise ValueError(f"dim must be even and positive, got {dim}")
        for name in ("theta_x", "theta_y"):
            theta = torch.tensor(10000.0)
            if learnable_thetas:
                self.register_parameter(name, nn.Parameter(theta))
            else:
                self.register_buffer(name, theta)
        self.register_buffer("frequency", torch.arange(0, dim, 2) / dim)

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Each input ``(N, dim, H, W)``, rotated; a tensor for one input, else a tuple."""
        _, _, height, width = inputs[0].shape
        like = {"device": inputs[0].device, "dtype": inputs[0].dtype}
        rows, columns = torch.arange(height, **like), torch.arange(width, **like)
        across, down = (
            theta.abs().clamp(min=1) ** -self.frequency for theta in (self.theta_x, self.theta_y)
        )
        angles = (
            across[:, None, None] * columns + down[:, None, None] * rows[:, None]
        )  # (dim / 2, H, W)
        sine, cosine = angles.sin(), angles.cos()
        rotated = []
        for x in inputs:
            first, second = x[:, 0::2], x[:, 1::2]
            pairs = (first * cosine - second * sine, first * sine + second * cosine)
            rotated.append(torch.stack(pairs, dim=2).flatten(1, 2))
        return rotated[0] if len(rotated) == 1 else tuple(rotated)


class ContextReweighting(nn.Module):
    """Attention of channels to channels, gated.

    Shape: ``(N, dim, H, W)``, input and output alike.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = LayerNorm2d(dim)
        self.queries, self.keys, self.values = (conv1x1(dim, dim) for _ in range(3))
        self.proj = conv1x1(dim, dim)
        self.out_norm = LayerNorm2d(dim)
        self.gate = _ContextGate(dim)

    def channel_attention(self, x: Tensor) -> Tensor:
        """Weights ``(N, dim, dim)`` of channels for channels of normalised values."""
        q, k = self.queries(x).flatten(2), self.keys(x).flatten(2)
        return (q @ k.transpose(1, 2) * q.size(-1) ** -0.5).softmax(dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x)
        mixed = self.channel_attention(normed) @ self.values(normed).flatten(2)
        out = self.out_norm(self.proj(mixed.view_as(x)))
        return x + out + self.gate(out)


class RefinedContext(nn.Module):
    """A context, then :class:`RoPE2D` and :class:`ContextReweighting`.

    Args:
        context: any network.
        dim: channels that it gives.
    """

    def __init__(self, context: nn.Module, dim: int) -> None:
        super().__init__()
        self.context = context
        self.rope = RoPE2D(dim)
        self.reweighting = ContextReweighting(dim)

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.reweighting(self.rope(self.context(*inputs)))


class HGCPModule(nn.Module):
    """Context of the anchors of the first slice, from the hyperprior alone.

    The hyperprior's scales at anchors and at the others attend to each other.

    Args:
        M: width of the latent, and of the hyperprior's scales, which are first.
        slice_ch: width of a slice.
        out_ch: channels of the context; ``None`` for twice as many as a slice has.
        num_heads: number of heads.

    Raises:
        ValueError: ``num_heads`` does not divide ``slice_ch`` and ``M``.
    """

    requires_side_params = True

    def __init__(
        self, M: int, slice_ch: int, out_ch: int | None = None, num_heads: int = 1
    ) -> None:
        super().__init__()
        check_heads(slice_ch, num_heads)
        check_heads(M, num_heads)
        out_ch = 2 * slice_ch if out_ch is None else out_ch
        self.M, self.num_heads = M, num_heads
        self.queries, self.keys, self.hyper_values = (projections(M) for _ in range(3))
        # Nothing uses it, but it is among the names of the model.
        self.slice_values = conv1x1(slice_ch, M)
        self.proj = conv3x3(M, out_ch)
        self.gate = _ContextGate(out_ch)

    def forward(self, y_hat: Tensor, *, side_params: Tensor) -> Tensor:
        """Context ``(N, out_ch, H, W)``.

        Args:
            y_hat: without effect: there is nothing before the first anchors.
            side_params: side information, of which the first ``M`` channels count.
        """
        scales = side_params[:, : self.M]
        anchors, rest = checkerboard_split(scales)
        of_anchors, of_rest = checkerboard_split(self.hyper_values(scales))
        both = linear_attention(
            self.queries(anchors), self.keys(rest), of_rest, self.num_heads
        ) + linear_attention(self.queries(rest), self.keys(anchors), of_anchors, self.num_heads)
        v = self.proj(both)
        out = v + self.gate(v)
        if not self.training:
            return out
        # A gradient of zero: what trains on several devices wants one of every parameter.
        idle = sum(parameter.sum() for parameter in self.slice_values.parameters())
        return out + 0 * idle


class GSCModule(nn.Module):
    """Tells which values are worth coding.

    Args:
        slice_ch: width of a slice.
        side_ch: width of its side information.
        hidden_ch: width within; ``None`` for that of the slice, at least 16.
        threshold: values with smaller scales tend to be left out.
    """

    def __init__(
        self,
        slice_ch: int,
        side_ch: int,
        hidden_ch: int | None = None,
        threshold: float = 0.3,
    ) -> None:
        super().__init__()
        hidden = max(16, slice_ch) if hidden_ch is None else hidden_ch
        self.threshold = float(threshold)
        self.side_proj = conv1x1(side_ch, slice_ch)
        self.predictor = nn.Sequential(
            conv3x3(4 * slice_ch, hidden),
            nn.GELU(),
            conv3x3(hidden, hidden),
            nn.GELU(),
            conv1x1(hidden, slice_ch),
        )
        self.scale_slope = nn.Parameter(torch.tensor(8.0))
        self.step_bias = nn.Parameter(torch.zeros(len(STEPS), slice_ch))

    def forward(
        self, *, side_params: Tensor, scales: Tensor, means: Tensor, step: str
    ) -> dict[str, Tensor]:
        """``{"selective_map": (N, slice_ch, H, W) in [0, 1]}``; 0.5 and more is worth coding.

        Raises:
            ValueError: ``step`` is neither ``"anchor"`` nor ``"non_anchor"``.
        """
        if step not in STEPS:
            raise ValueError(f"step must be one of {STEPS}, got {step!r}")
        large = (scales >= self.threshold).to(scales)
        seen = torch.cat((self.side_proj(side_params), scales, means, large), dim=1)
        logits = self.predictor(seen) + self.scale_slope * (scales - self.threshold)
        bias = self.step_bias[STEPS.index(step)][:, None, None]
        return {"selective_map": torch.sigmoid(logits + bias)}
