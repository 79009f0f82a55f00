# SPDX-License-Identifier: BSD-3-Clause-Clear
"""AuxT: a linear wavelet branch beside a transform, which lets it train faster.

Source of all: Li et al. 2025, "On disentangled training for nonlinear transform in learned image
compression".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import torch
import torch.nn as nn
from torch import Tensor

from compressai.layers.attn.blocks import apply_channels_last
from compressai.layers.wave import DWT2D, IDWT2D

__all__ = [
    "OLP",
    "WLS",
    "AuxTTransform",
    "aux_loss",
    "build_iwls_branch",
    "build_wls_branch",
    "compute_analysis_aux_positions",
    "compute_synthesis_aux_positions",
    "forward_with_auxt",
    "has_auxt_state",
    "iWLS",
    "is_auxt_upstream_wavelet_buffer_key",
    "is_auxt_wavelet_buffer_key",
    "normalize_upstream_auxt_key",
]


class OLP(nn.Module):
    """Linear projection of channels that training keeps close to an orthogonal one.

    Args:
        in_features: channels of the input.
        out_dim: channels of the output.
        bias: give the projection a bias.

    State dict: ``linear``.
    Shape: ``(..., in_features)`` to ``(..., out_dim)``.
    """

    def __init__(self, in_features: int, out_dim: int, bias: bool = True) -> None:
        super().__init__()
        self.in_dim = in_features
        self.out_dim = out_dim
        self.linear = nn.Linear(in_features, out_dim, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)

    def loss(self) -> Tensor:
        """Mean squared difference of the weights' Gram matrix, the smaller one, and identity."""
        weight = self.linear.weight
        gram = weight @ weight.T if self.in_dim > self.out_dim else weight.T @ weight
        identity = torch.eye(gram.size(0), dtype=gram.dtype, device=gram.device)
        return (gram - identity).square().mean()


def _scaling_factors(channels: int) -> nn.Parameter:
    """Logarithms of the factors of four bands: 1/2, and 0 for the finest."""
    factors = torch.full((1, 1, 4 * channels), 0.5)
    factors[..., 3 * channels :] = 0
    return nn.Parameter(factors)


class WLS(nn.Module):
    """Step of the analysis: wavelet bands, scaled and projected.

    ``olp(dwt(x) * exp(scaling_factors))``.

    Args:
        in_dim: channels of the input.
        out_dim: channels of the output.
        wave: see :class:`~compressai.layers.wave.DWT2D`.

    State dict: ``scaling_factors`` ``(1, 1, 4 * in_dim)``, ``olp.linear``.
    Shape: ``(N, in_dim, H, W)``, H and W even, to ``(N, out_dim, H / 2, W / 2)``.
    """

    def __init__(self, in_dim: int, out_dim: int, wave: str = "haar") -> None:
        super().__init__()
        self.dwt = DWT2D(wave)
        self.olp = OLP(4 * in_dim, out_dim)
        self.scaling_factors = _scaling_factors(in_dim)

    def forward(self, x: Tensor) -> Tensor:
        factors = self.scaling_factors.exp()
        return apply_channels_last(lambda bands: self.olp(bands * factors), self.dwt(x))


class iWLS(nn.Module):
    """Step of the synthesis: projected, scaled, and put together from wavelet bands.

    ``idwt(olp(x) / exp(scaling_factors))``.

    Args:
        in_dim: channels of the input.
        out_dim: channels of the output.
        wave: see :class:`~compressai.layers.wave.IDWT2D`.

    State dict: ``scaling_factors`` ``(1, 1, 4 * out_dim)``, ``olp.linear``.
    Shape: ``(N, in_dim, H, W)`` to ``(N, out_dim, 2 * H, 2 * W)``.
    """

    def __init__(self, in_dim: int, out_dim: int, wave: str = "haar") -> None:
        super().__init__()
        self.idwt = IDWT2D(wave)
        self.olp = OLP(in_dim, 4 * out_dim)
        self.scaling_factors = _scaling_factors(out_dim)

    def forward(self, x: Tensor) -> Tensor:
        factors = self.scaling_factors.exp()
        return self.idwt(apply_channels_last(lambda y: self.olp(y) / factors, x))


def forward_with_auxt(
    transform: Iterable[nn.Module],
    auxiliary_layers: Sequence[nn.Module] | None,
    merge_positions: Sequence[int],
    x: Tensor,
) -> Tensor:
    """Apply a sequence of layers with a branch beside it.

    Behind each layer whose number is a merge position, the branch goes one step on and its result
    is added; the sum is what the following layers see.

    Args:
        transform: the layers; a :class:`torch.nn.Sequential` if there is no branch.
        auxiliary_layers: steps of the branch, or None.
        merge_positions: ascending numbers of layers, one for each step.
        x: input of the first layer and of the first step.

    Returns:
        Output of the last layer, with the branch if it merges there.

    Raises:
        RuntimeError: there are not as many merge positions as steps.
    """
    if auxiliary_layers is None:
        return transform(x)
    layers, steps, merged = list(transform), list(auxiliary_layers), set(merge_positions)
    if len(merged & set(range(len(layers)))) != len(steps) or len(merged) != len(steps):
        raise RuntimeError(
            f"merge positions must be {len(steps)} different layers of {len(layers)}, one for "
            f"each auxiliary layer, got {tuple(merge_positions)}"
        )
    out = branch = x
    following = iter(steps)
    for number, layer in enumerate(layers):
        out = layer(out)
        if number in merged:
            branch = next(following)(branch)
            out = out + branch
    return out


class AuxTTransform(nn.Module):
    """A transform and the branch beside it, see :func:`forward_with_auxt`.

    Args:
        transform: the layers.
        auxiliary_layers: steps of the branch.
        merge_positions: behind which layers the steps are added. The attribute may be set to
            others later; it is not in the state dict.

    State dict: ``transform``, ``auxiliary_layers``.
    Raises:
        RuntimeError: (forward) there are not as many merge positions as steps.
    """

    def __init__(
        self,
        transform: nn.Sequential,
        auxiliary_layers: nn.ModuleList,
        merge_positions: Sequence[int],
    ) -> None:
        super().__init__()
        self.transform = transform
        self.auxiliary_layers = auxiliary_layers
        self.merge_positions = tuple(merge_positions)

    def forward(self, x: Tensor) -> Tensor:
        return forward_with_auxt(self.transform, self.auxiliary_layers, self.merge_positions, x)

    def extra_repr(self) -> str:
        return f"merge_positions={self.merge_positions}"


def build_wls_branch(N: int, M: int) -> nn.ModuleList:
    """Branch of an analysis of TCM's widths: from 3 channels by ``2 N`` to ``M``."""
    return nn.ModuleList(
        (WLS(3, 2 * N), WLS(2 * N, 2 * N), WLS(2 * N, 2 * N), WLS(2 * N, M)),
    )


def build_iwls_branch(N: int, M: int) -> nn.ModuleList:
    """Branch of a synthesis of TCM's widths: from ``M`` channels by ``2 N`` to 3."""
    return nn.ModuleList(
        (iWLS(M, 2 * N), iWLS(2 * N, 2 * N), iWLS(2 * N, 2 * N), iWLS(2 * N, 3)),
    )


def compute_analysis_aux_positions(config: Sequence[int]) -> tuple[int, ...]:
    """Numbers of the layers of TCM's analysis that halve the size.

    Args:
        config: blocks in each of the six stages, as in :class:`~compressai.models.tcm.TCM`.
    """
    c0, c1, c2 = config[:3]
    return 0, c0 + 1, c0 + c1 + 2, c0 + c1 + c2 + 3


def compute_synthesis_aux_positions(config: Sequence[int]) -> tuple[int, ...]:
    """Numbers of the last layers of each stage of TCM's synthesis, and of its last layer.

    Args:
        config: as in :func:`compute_analysis_aux_positions`.
    """
    c3, c4, c5 = config[3:]
    return c3, c3 + c4 + 1, c3 + c4 + c5 + 2, c3 + c4 + c5 + 3


def aux_loss(model: nn.Module) -> Tensor:
    """Sum of the losses of all :class:`OLP` of a model, to be added to its loss with weight 0.1.

    Args:
        model: any module with parameters.

    Returns:
        0-dimensional; 0 without any.
    """
    losses = [module.loss() for module in model.modules() if isinstance(module, OLP)]
    if losses:
        return torch.stack(losses).sum()
    parameter = next(model.parameters(), torch.zeros(()))
    return parameter.new_zeros(())


# -- names in state dicts -----------------------------------------------------------------------

_BRANCH = r"^(?:module\.)?(?:AuxT_(?:enc|dec)|g_[as]\.auxiliary_layers)\.\d+\."
_PACKAGE_KERNEL = re.compile(_BRANCH + r"(?:dwt\.transform\.h|idwt\.inverse\.g)[01]_(?:col|row)$")
_AUTHORS_KERNEL = re.compile(_BRANCH + r"(?:dwt\.w_(?:ll|lh|hl|hh)|idwt\.filters)$")
_BRANCH_NAME = re.compile(_BRANCH)


def has_auxt_state(state_dict: Iterable[str]) -> bool:
    """Whether any name is of an AuxT branch, in the authors' layout or ours."""
    return any(_BRANCH_NAME.match(key) for key in state_dict)


def is_auxt_wavelet_buffer_key(key: str) -> bool:
    """Whether a name is of a kernel that a wavelet package registers."""
    return _PACKAGE_KERNEL.match(key) is not None


def is_auxt_upstream_wavelet_buffer_key(key: str) -> bool:
    """Whether a name is of a kernel that the authors' program registers."""
    return _AUTHORS_KERNEL.match(key) is not None


def normalize_upstream_auxt_key(key: str) -> str | None:
    """A name of an AuxT branch with ``olp`` in place of ``OLP``; None for other names."""
    return key.replace(".OLP.", ".olp.") if _BRANCH_NAME.match(key) else None
