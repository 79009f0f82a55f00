# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Latent codec that goes over three grids, from coarse to fine, in eleven steps.

A position is coded in one step for one block of channels, in another for the next. So the positions
and channels that a step codes make up a full map of fewer channels, and a step is coded as such.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

from compressai.entropy_models.generalized import GeneralizedGaussianConditional
from compressai.entropy_models.steps import step_decoder, step_encoder
from compressai.latent_codecs.base import LatentCodec, check_batch, only_strings
from compressai.ops import quantize_ste
from compressai.registry import register_module

__all__ = ["HierarchicalProgressiveLatentCodec", "ProgressivePrior"]

# -- where what is coded ------------------------------------------------------------------------

Phase = tuple[int, int]  # row and column modulo 2
Cells = tuple[Phase, ...]  # rows and columns modulo the period of a pattern

# Where a channel's samples on the coarser grid lie: of each eighth in the full map, and of each
# quarter in the map of the middle grid.
_MIDDLE_PHASES: Sequence[Phase] = ((0, 0), (1, 1), (0, 1), (1, 0)) * 2
_COARSE_PHASES: Sequence[Phase] = ((0, 0), (0, 1), (1, 0), (1, 1))
# Where the released models take the side information of the middle grid from: they leave out this
# phase in place of that of _COARSE_PHASES, and close the gaps.
_SIDE_PHASES: Sequence[Phase] = ((0, 0), (0, 0), (0, 1), (0, 1))

_EVEN, _ODD = ((0, 0), (1, 1)), ((0, 1), (1, 0))
_00, _01, _10, _11 = (((a, b),) for a in (0, 1) for b in (0, 1))
_PATTERNS: Sequence[Cells] = (
    ((0, 0), (2, 2)),
    ((0, 2), (2, 0)),
    ((1, 1), (3, 3)),
    ((1, 3), (3, 1)),
    ((0, 1), (2, 3)),
    ((0, 3), (2, 1)),
    ((1, 0), (3, 2)),
    ((1, 2), (3, 0)),
)


# By step on the finest grid: the pattern of each eighth.
_OF_EIGHTHS = ("24603571", "35712460", "46025713", "57134602", "60247135", "71356024")


# The cells that each block of channels codes: by grid, step and block.
_STEPS: Sequence[Sequence[Sequence[Cells]]] = (
    ((_EVEN, _ODD), (_ODD, _EVEN)),
    ((_11, _10, _01, _00), (_10, _11, _00, _01), (_01, _00, _11, _10)),
    [[_PATTERNS[int(number)] for number in numbers] for numbers in _OF_EIGHTHS],
)
_PERIODS = (2, 2, 4)


def _take(x: Tensor, phases: Sequence[Phase]) -> Tensor:
    """The samples of a coarser grid, a block of channels for each phase."""
    blocks = x.chunk(len(phases), dim=1)
    return torch.cat([block[..., a::2, b::2] for block, (a, b) in zip(blocks, phases)], dim=1)


def _put(x: Tensor, phases: Sequence[Phase]) -> Tensor:
    """Inverse of :func:`_take`, with zeros elsewhere."""
    n, channels, height, width = x.shape
    full = x.new_zeros((n, channels, 2 * height, 2 * width))
    targets, blocks = (t.unflatten(1, (len(phases), -1)) for t in (full, x))
    for i, (a, b) in enumerate(phases):
        targets[:, i, :, a::2, b::2] = blocks[:, i]
    return full


def _take_halves(x: Tensor, phases: Sequence[Phase]) -> Tensor:
    return torch.cat([_take(half, phases) for half in x.chunk(2, 1)], dim=1)


def _put_halves(x: Tensor, phases: Sequence[Phase]) -> Tensor:
    return torch.cat([_put(half, phases) for half in x.chunk(2, 1)], dim=1)


def _others(size: Sequence[int], phase: Phase) -> Tensor:
    """Where a map ``size`` is not of a phase, as numbers of positions in raster order."""
    mask = torch.ones(tuple(size), dtype=torch.bool, device="cpu")
    mask[phase[0] :: 2, phase[1] :: 2] = False
    return mask.flatten().nonzero().flatten()


def _middle_side(side: Tensor) -> Tensor:
    """What the side information of the middle grid adds to that of the coarse one.

    It is displaced as in the released models, which were trained so.

    Args:
        side: on the middle grid, scales and means.
    """
    out = side.new_zeros(side.shape)
    targets, blocks = (t.flatten(2).unflatten(1, (8, -1)) for t in (out, side))
    for i, phases in enumerate(zip(_SIDE_PHASES * 2, _COARSE_PHASES * 2)):
        there, here = (_others(side.shape[-2:], phase).to(side.device) for phase in phases)
        targets[:, i, :, here] = blocks[:, i, :, there]
    return out


def _fine_side(side: Tensor) -> Tensor:
    """What the side information of the finest grid adds to that of the middle one."""
    return side - _put_halves(_take_halves(side, _MIDDLE_PHASES), _MIDDLE_PHASES)


@dataclass(frozen=True)
class _Step:
    """What is coded in one step.

    Attributes:
        grid: 0 for the coarsest grid, to 2 for the full map.
        cells: for each block of channels, the cells that it codes.
    """

    grid: int
    cells: Sequence[Cells]

    def _blocks(self, like: Tensor) -> Tensor:
        """Number of the block that codes each position, ``(1, 1, 1, H, W)``."""
        period = _PERIODS[self.grid]
        numbers = [[0] * period for _ in range(period)]
        for block, cells in enumerate(self.cells):
            for row, column in cells:
                numbers[row][column] = block
        height, width = like.shape[-2:]
        pattern = torch.tensor(numbers, device=like.device)
        rows, columns = -(-height // period), -(-width // period)
        return pattern.repeat(rows, columns)[None, None, None, :height, :width]

    def take(self, x: Tensor) -> Tensor:
        """``(N, C, H, W)`` on the grid to what is coded of it, ``(N, C / blocks, H, W)``."""
        blocks = x.unflatten(1, (len(self.cells), -1))
        chosen = self._blocks(x).expand(len(x), 1, *blocks.shape[2:])
        return blocks.gather(1, chosen).squeeze(1)

    def put(self, x: Tensor) -> Tensor:
        """Inverse of :meth:`take`, with zeros elsewhere."""
        chosen = self._blocks(x).expand(len(x), 1, *x.shape[1:])
        blocks = x.new_zeros((len(x), len(self.cells), *x.shape[1:]))
        return blocks.scatter(1, chosen, x[:, None]).flatten(1, 2)

    def put_on_map(self, x: Tensor) -> Tensor:
        """As :meth:`put`, on the full map."""
        x = self.put(x)
        if self.grid == 0:
            x = _put(x, _COARSE_PHASES)
        return x if self.grid == 2 else _put(x, _MIDDLE_PHASES)


# -- networks and coding ------------------------------------------------------------------------


class ProgressivePrior(nn.Module):
    """Network to the parameters of a step, shared by several steps that each scale its inside.

    Args:
        branch_1: first half.
        branch_2: second half.
    """

    def __init__(self, branch_1: nn.Module, branch_2: nn.Module) -> None:
        super().__init__()
        self.branch_1 = branch_1
        self.branch_2 = branch_2

    def forward(self, x: Tensor, adaptive: Tensor) -> Tensor:
        """From ``(N, 3 M, H, W)`` and a step's factors ``(1, 3 M, 1, 1)`` to ``(N, 2 M, H, W)``."""
        return self.branch_2(self.branch_1(x) * adaptive)


Code = Callable[[_Step, Tensor, Tensor], Tensor]


@register_module("HierarchicalProgressiveLatentCodec")
class HierarchicalProgressiveLatentCodec(LatentCodec):
    """Codes a latent on three grids, from coarse to fine, each step in the context of those before.

    On each grid, steps share a network that predicts scales and means from the context and from
    what is decoded; a context of twice the width of the latent is carried on from step to step::

        grid    map            steps  networks of a step
        coarse  (H/4, W/4)     2      parameters are the side information; then prior_s1_s2
        middle  (H/2, W/2)     3      prior_s1_s2(adaptor_s2[i]([context | y_hat]), factors)
        fine    (H, W)         6      prior_s3(adaptor_s3[i]([context | y_hat]), factors)

    Every grid has all channels; each takes its coarser samples at another place. Scales come first
    in side information and parameters, then means.

    Args:
        channels: of the latent, ``M``, a multiple of 8.
        adaptor_s1, adaptor_s2, adaptor_s3: 1, 3 and 6 networks from ``3 M`` to ``3 M`` channels.
            The first step on a grid uses the last one, as in the released models.
        prior_s1_s2, prior_s3: from ``3 M`` to ``2 M`` channels.
        context_net: two networks from ``2 M`` to ``2 M`` channels, on entering the middle and the
            fine grid.
        attention: networks on the three grids that make the next context of a step's parameters
            and its context; ``None`` takes the parameters.
        gaussian_conditional: the entropy model; ``None`` builds one.

    Shape: ``y`` ``(N, M, H, W)`` and side information ``(N, 2 M, H, W)``; sides are multiples of 8,
    and such that attention can have its windows.

    Raises:
        ValueError: ``channels`` is not a multiple of 8, or the numbers of networks are others.

    Source: Li et al. 2025, "Learned image compression with hierarchical progressive context
    modeling".
    """

    def __init__(
        self,
        channels: int,
        *,
        adaptor_s1: Sequence[nn.Module],
        adaptor_s2: Sequence[nn.Module],
        adaptor_s3: Sequence[nn.Module],
        prior_s1_s2: ProgressivePrior,
        prior_s3: ProgressivePrior,
        context_net: Sequence[nn.Module],
        attention: Sequence[nn.Module] | None = None,
        gaussian_conditional: GeneralizedGaussianConditional | None = None,
    ) -> None:
        super().__init__()
        if channels < 8 or channels % 8:
            raise ValueError(f"channels must be a positive multiple of 8, got {channels}")
        counts = [len(part) for part in (adaptor_s1, adaptor_s2, adaptor_s3, context_net)]
        if counts != [1, 3, 6, 2] or len(attention or (None,) * 3) != 3:
            raise ValueError(
                "adaptor_s1, adaptor_s2, adaptor_s3 and context_net must be 1, 3, 6 and 2 "
                f"networks, and attention 3 or None, got {counts} and attention={attention}"
            )
        self.channels = channels
        self.adaptor_s1 = nn.ModuleList(adaptor_s1)
        self.adaptor_s2 = nn.ModuleList(adaptor_s2)
        self.adaptor_s3 = nn.ModuleList(adaptor_s3)
        self.prior_s1_s2 = prior_s1_s2
        self.prior_s3 = prior_s3
        self.adaptive_params = nn.ParameterList(
            torch.ones(1, 3 * channels, 1, 1) for _ in range(sum(counts[:3]))
        )
        self.context_net = nn.ModuleList(context_net)
        self.attn_s1, self.attn_s2, self.attn_s3 = attention or (None, None, None)
        self.gaussian_conditional = gaussian_conditional or GeneralizedGaussianConditional(None)

    def forward(self, y: Tensor, params: Tensor) -> dict[str, Any]:
        """Likelihoods and reconstruction.

        Args:
            y: ``(N, M, H, W)``.
            params: side information ``(N, 2 M, H, W)``.

        Returns:
            ``{"likelihoods": {"y"}, "y_hat"}``. Likelihoods are those of noisy values in training;
            ``y_hat`` is rounded around the means, with the gradient of the identity.

        Raises:
            ValueError: sizes do not fit.
        """
        grids = self._grids(y, params)
        residual, all_scales = torch.zeros_like(y), torch.zeros_like(y)

        def code(step: _Step, scales: Tensor, means: Tensor) -> Tensor:
            nonlocal residual, all_scales
            rest = step.take(grids[step.grid]) - means
            residual = residual + step.put_on_map(rest)
            all_scales = all_scales + step.put_on_map(scales)
            return quantize_ste(rest) + means

        y_hat = self._go_through(params, code)
        _, likelihoods = self.gaussian_conditional(residual, all_scales)
        return {"likelihoods": {"y": likelihoods}, "y_hat": y_hat}

    def compress(self, y: Tensor, params: Tensor) -> dict[str, Any]:
        """``{"strings": [y], "shape": (H, W), "y_hat"}``; arguments as in :meth:`forward`.

        All steps of an item are in one string.
        """
        grids = self._grids(y, params)
        encoder = step_encoder(self.gaussian_conditional)

        def code(step: _Step, scales: Tensor, means: Tensor) -> Tensor:
            return encoder.code(step.take(grids[step.grid]), scales, means)

        y_hat = self._go_through(params, code)
        return {"strings": [encoder.finish()], "shape": y.shape[-2:], "y_hat": y_hat}

    def decompress(
        self, strings: Sequence[Sequence[bytes]], shape: Sequence[int], params: Tensor
    ) -> dict[str, Any]:
        """``{"y_hat"}``, perhaps ``"y_fine"``, see :class:`LatentCodec`.

        Args:
            strings: one list of strings.
            shape: ``(H, W)`` or ``(M, H, W)``.
            params: side information ``(N, 2 M, H, W)``.

        Raises:
            ValueError: sizes do not fit, or a string is damaged.
        """
        y_strings = only_strings(strings, type(self).__name__)
        if check_batch(strings, type(self).__name__) != len(params) or (
            tuple(shape)[-2:] != tuple(params.shape[-2:])
        ):
            raise ValueError(
                f"shape {tuple(shape)} and {len(y_strings)} strings do not fit side information "
                f"of size {tuple(params.shape)}"
            )
        self._check_params(params)
        decoder = step_decoder(self.gaussian_conditional, y_strings)
        fine: list[Tensor] = []

        def code(step: _Step, scales: Tensor, means: Tensor) -> Tensor:
            out = decoder.decode(scales, means)
            if "y_fine" in out:
                fine.append(step.put_on_map(out["y_fine"]))
            return out["y_hat"]

        y_hat = self._go_through(params, code)
        decoder.check_finished()
        return {"y_hat": y_hat, "y_fine": sum(fine)} if fine else {"y_hat": y_hat}

    def _grids(self, y: Tensor, params: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A latent on the three grids, coarsest first."""
        self._check_params(params)
        if y.shape != (len(params), self.channels, *params.shape[-2:]):
            raise ValueError(
                f"y of size {tuple(y.shape)} does not fit side information of size "
                f"{tuple(params.shape)} and {self.channels} channels"
            )
        middle = _take(y, _MIDDLE_PHASES)
        return _take(middle, _COARSE_PHASES), middle, y

    def _check_params(self, params: Tensor) -> None:
        _, channels, height, width = params.shape
        if channels != 2 * self.channels or height % 8 or width % 8:
            raise ValueError(
                f"side information must have {2 * self.channels} channels, and sides that are "
                f"multiples of 8, got {tuple(params.shape)}"
            )

    def _side(self, params: Tensor) -> Iterator[Tensor]:
        """What side information tells anew on each grid, coarsest first."""
        middle = _take_halves(params, _MIDDLE_PHASES)
        yield _take_halves(middle, _COARSE_PHASES)
        yield _middle_side(middle)
        yield _fine_side(params)

    def _go_through(self, params: Tensor, code: Code) -> Tensor:
        """Go through all steps.

        Args:
            params: side information.
            code: from a step, and scales and means of what it codes, to the values that later
                steps see.

        Returns:
            The values of all steps, on the full map.
        """
        grids = (
            (self.adaptor_s1, self.prior_s1_s2, self.attn_s1),
            (self.adaptor_s2, self.prior_s1_s2, self.attn_s2),
            (self.adaptor_s3, self.prior_s3, self.attn_s3),
        )
        adaptive = iter(self.adaptive_params)
        context = y_hat = params.new_empty(0)
        for grid, (side, (adaptors, prior, attention)) in enumerate(zip(self._side(params), grids)):
            steps = [_Step(grid, cells) for cells in _STEPS[grid]]
            if grid == 0:
                # Without a network: the side information itself tells scales and means.
                context = side
                y_hat = self._coded(steps.pop(0), context, code)
            else:
                phases = (_COARSE_PHASES, _MIDDLE_PHASES)[grid - 1]
                y_hat = _put(y_hat, phases)
                context = self.context_net[grid - 1](_put_halves(context, phases) + side)
            for i, step in enumerate(steps):
                merged = adaptors[i - 1](torch.cat((context, y_hat), dim=1))
                predicted = prior(merged, next(adaptive))
                y_hat = y_hat + self._coded(step, predicted, code)
                if grid == 2 and step is steps[-1]:
                    break  # no step needs another context
                context = predicted if attention is None else attention(predicted, context)
        return y_hat

    @staticmethod
    def _coded(step: _Step, predicted: Tensor, code: Code) -> Tensor:
        """The values of a step, on its grid."""
        scales, means = predicted.chunk(2, dim=1)
        return step.put(code(step, step.take(scales), step.take(means)))
