# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Encoders that try harder: the same format and weights, fewer bits for the same image.

An analysis transform guesses a latent in one pass. The latent that serves an image best under the
model's own objective is found by descent: rounding is relaxed to a random choice between two
integers that becomes firm little by little, and the latent follows the gradient. Decoders notice
nothing of it.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, repeat
from numbers import Real
from typing import TYPE_CHECKING, Any

import torch
import torch.nn as nn
from torch import Tensor

from compressai.losses import RateDistortionLoss
from compressai.models._copies import shallow_copy
from compressai.models.integer.layers import IntegerNetwork
from compressai.ops import relaxed_rounding

if TYPE_CHECKING:
    from compressai.models.base import CompressionModel

__all__ = ["EFFORTS", "MAX_EFFORT", "check_effort", "compress_with_effort"]

# Steps of descent by effort, from 1.
EFFORTS = (0, 10, 20, 40, 80, 150, 300, 600, 1200)
MAX_EFFORT = len(EFFORTS)

# Yang, Bamler and Mandt 2020 and a search on the shipped weights: see docs/effort.md.
_LEARNING_RATE = 4e-3  # of the first step, in steps of the quantiser; it falls to 0
_FIRST_TEMPERATURE, _LAST_TEMPERATURE = 0.5, 0.3
# Of the choices, against that of the paper: with all of it, a few hundred steps follow the noise
# more than the gradient.
_NOISE = 0.35
HYPER_ANALYSIS = "h_a"
"""Name of the hyper analysis in every model."""
_EDGE = 1e-5  # atanh has no value at 1
# Larger images are refined in parts, which bounds memory. Neighbours are seen but not changed.
_PART, _MARGIN = 512, 128
# What a pass that keeps all for its gradient takes, over one that does not.
GRADIENT_BYTES = 8


def compress_with_effort(
    net: CompressionModel,
    x: Tensor,
    *,
    effort: int,
    lmbda: float | None = None,
    metric: str = "mse",
    size: tuple[int, int] | None = None,
    progress: Callable[[float], None] | None = None,
    seed: int = 0,
    **arguments: Any,
) -> dict[str, Any]:
    """Code images with more work than one pass of the analysis.

    The result decodes like any other. It is never worse than that of ``effort=1`` by
    ``R + lmbda * D``, with the real bytes and the decoded image: if it were, that one is given.

    Args:
        net: a model in evaluation mode, prepared or not (``net.compress(x, effort=...)`` sees to
            that itself).
        x: ``(N, 3, H, W)`` in [0, 1].
        effort: 1, one pass, to 9; :data:`EFFORTS` has the steps. Time grows with the steps, each
            of which costs about six passes of the networks.
        lmbda: weight of the distortion, see :class:`~compressai.losses.RateDistortionLoss`;
            ``None`` takes what the model was trained with, where it is known.
        metric: ``"mse"`` or ``"ms-ssim"``, what the model is to be good at.
        size: ``(H, W)`` of what is of interest in the upper left of ``x``; the rest is padding.
        progress: called with the share that is done, now and then.
        seed: of the random choices. The same call gives the same strings on one machine.
        arguments: what else ``net.compress`` takes, such as ``sync_safe`` or a rate.

    Returns:
        As ``net.compress``.

    Raises:
        TypeError: ``effort`` is no integer, or ``lmbda`` no number.
        ValueError: ``effort`` is not in 1 ... 9, ``lmbda`` is not positive or not known, or the
            model has no gradient, as those of integers.

    Source: Yang, Bamler and Mandt 2020, "Improving inference for neural image compression",
    section 3.2.
    """
    check_effort(effort)
    if effort == 1:
        return net.compress(x, **arguments)
    multiplier = _checked_multiplier(net, effort, lmbda, arguments)
    if any(isinstance(module, IntegerNetwork) for module in net.modules()):
        raise ValueError(
            f"effort must be 1 for {type(net).__name__}: its networks of integers have no gradient"
        )
    plain = net.compress(x, **arguments)
    with torch.inference_mode(False):
        # In the layout that compress takes images in, and with them their latents.
        x = x.clone(memory_format=torch.contiguous_format)
        objective = _Objective(net, x, multiplier, metric, size, arguments)
        best = _Best(objective, plain)
        latents = _Latents.of(net, objective.x)
        _descend(objective, latents, EFFORTS[effort - 1], seed, progress)
        best.offer(latents)
    return best.result


def check_effort(effort: Any) -> None:
    """Raise TypeError or ValueError for anything but an effort."""
    if isinstance(effort, bool) or not isinstance(effort, int):
        raise TypeError(f"effort must be an integer, got {type(effort).__name__}")
    if not 1 <= effort <= MAX_EFFORT:
        raise ValueError(f"effort must be in 1 ... {MAX_EFFORT}, got {effort}")


def _checked_multiplier(
    net: CompressionModel, effort: int, lmbda: Any, arguments: Mapping[str, Any]
) -> float:
    if lmbda is None:
        lmbda = net.lagrangian_multiplier(**arguments)
    if lmbda is None:
        raise ValueError(
            f"effort {effort} needs lmbda, the weight of the distortion that the model was trained "
            "with: neither the model nor its file tells"
        )
    if isinstance(lmbda, bool) or not isinstance(lmbda, Real):
        raise TypeError(f"lmbda must be a number, got {type(lmbda).__name__}")
    if not 0 < lmbda < math.inf:
        raise ValueError(f"lmbda must be positive and finite, got {lmbda}")
    return float(lmbda)


class _Latents:
    """What is refined: the latent, and what is added to each hyperlatent.

    Args:
        y: ``(N, M, h, w)``.
        offsets: by the name of the module that gives the hyperlatent.
    """

    def __init__(self, y: Tensor, offsets: Mapping[str, Tensor]) -> None:
        self.y, self.offsets = y, dict(offsets)

    @classmethod
    def of(cls, net: CompressionModel, x: Tensor) -> _Latents:
        """The latents of images as the analysis gives them."""
        shapes: dict[str, Tensor] = {}

        def note(name: str) -> Callable[..., None]:
            def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
                shapes[name] = torch.zeros_like(output)

            return hook

        analyses = [
            (name, module)
            for name, module in net.named_modules()
            if name.rsplit(".", 1)[-1] == HYPER_ANALYSIS
        ]
        hooks = [module.register_forward_hook(note(name)) for name, module in analyses]
        try:
            with torch.no_grad():
                y = net.g_a(x)
                reference = _reference(net)
                cls(y, {}).coding(reference).forward(x)
        finally:
            for hook in hooks:
                hook.remove()
        return cls(y.clone(), {name: offset.clone() for name, offset in shapes.items()})

    def tensors(self) -> list[Tensor]:
        return [self.y, *self.offsets.values()]

    def part(self, shape: Sequence[int], rows: slice, columns: slice) -> _Latents:
        """Views of what lies behind a part of images of that shape."""

        def view(latent: Tensor) -> Tensor:
            places = []
            for size, pixels, span in zip(latent.shape[-2:], shape[-2:], (rows, columns)):
                places.append(slice(span.start * size // pixels, span.stop * size // pixels))
            return latent[..., places[0], places[1]]

        offsets = {name: view(offset) for name, offset in self.offsets.items()}
        return _Latents(view(self.y), offsets)

    def moved(
        self,
        start: Sequence[Tensor],
        steps: Sequence[Tensor],
        units: tuple[float | Tensor, float | Tensor],
    ) -> _Latents:
        """Others like these: ``start``, moved by so many steps of the quantiser."""
        y, *offsets = (
            tensor + step * unit
            for tensor, step, unit in zip(start, steps, chain((units[0],), repeat(units[1])))
        )
        return _Latents(y, dict(zip(self.offsets, offsets)))

    def coding(self, net: CompressionModel) -> CompressionModel:
        """A model like ``net`` that finds these latents in whatever image it is given."""
        twin = shallow_copy(net)
        vars(twin).pop("_coding", None)
        vars(twin)["g_a"] = lambda x: self.y
        for name, offset in self.offsets.items():
            *path, last = name.split(".")
            owner: nn.Module = twin
            for step in path:
                child = shallow_copy(owner._modules[step])
                owner._modules[step] = child
                owner = child
            # Found before the module of that name, which stays registered.
            vars(owner)[last] = _shifted(owner._modules[last], offset)
        return twin


def _shifted(module: nn.Module, offset: Tensor) -> Callable[..., Tensor]:
    return lambda *inputs: module(*inputs) + offset


def _reference(net: CompressionModel) -> CompressionModel:
    """The model that a prepared one was made of: kernels have no gradient."""
    preparation = vars(net).get("preparation")
    return net if preparation is None else preparation.reference


class _Objective:
    """Rate and distortion, estimated with the likelihoods of a pass or measured by real bytes.

    Args: see :func:`compress_with_effort`.
    """

    def __init__(
        self,
        net: CompressionModel,
        x: Tensor,
        lmbda: float,
        metric: str,
        size: tuple[int, int] | None,
        arguments: dict[str, Any],
    ) -> None:
        self.net, self.trainable = net, _reference(net)
        self.x = x
        self.arguments = arguments
        self._loss = RateDistortionLoss(lmbda=lmbda, metric=metric)
        self._height, self._width = x.shape[-2:] if size is None else size

    def compress(self, latents: _Latents) -> dict[str, Any]:
        """What the model makes of latents."""
        return latents.coding(self.net).compress(self.x, **self.arguments)

    def estimated(self, latents: _Latents, rows: slice, columns: slice) -> Tensor:
        """The Lagrangian of a part of the images, by ``forward``."""
        model = latents.coding(self.trainable)
        out = model(self.x[..., rows, columns], **accepted_arguments(model.forward, self.arguments))
        seen = (
            ...,
            slice(rows.start, max(rows.start + 1, min(rows.stop, self._height))),
            slice(columns.start, max(columns.start + 1, min(columns.stop, self._width))),
        )
        in_part = (..., *(slice(0, place.stop - place.start) for place in seen[1:]))
        x_hat = out["x_hat"].clamp(0, 1)[in_part]
        return self._loss({**out, "x_hat": x_hat}, self.x[seen])["loss"]

    def measured(self, coded: Mapping[str, Any]) -> list[float]:
        """The Lagrangian of each image, of strings that are decoded for it."""
        arguments = accepted_arguments(self.net.decompress, self.arguments)
        out = self.net.decompress(coded["strings"], coded["shape"], **arguments)
        seen = (..., slice(self._height), slice(self._width))
        values = []
        for i, (x_hat, x) in enumerate(zip(out["x_hat"], self.x)):
            bits = 8 * sum(len(strings[i]) for strings in coded["strings"])
            compared = {"x_hat": x_hat[None][seen], "likelihoods": {}}
            distortion = float(self._loss(compared, x[None][seen])["loss"])
            values.append(distortion + bits / (self._height * self._width))
        return values


def accepted_arguments(method: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the arguments whose names a method has."""
    names = inspect.signature(method).parameters
    return {name: value for name, value in arguments.items() if name in names}


class _Best:
    """The best strings so far of each image of a batch.

    Args:
        objective: what is to be small.
        coded: the first.
    """

    def __init__(self, objective: _Objective, coded: dict[str, Any]) -> None:
        self._objective = objective
        self.result = coded
        self._values = objective.measured(coded)

    def offer(self, latents: _Latents) -> bool:
        """Take what is better; tells whether anything was."""
        coded = self._objective.compress(latents)
        values = self._objective.measured(coded)
        better = [i for i, (new, old) in enumerate(zip(values, self._values)) if new < old]
        if not better:
            return False
        strings = [list(step) for step in self.result["strings"]]
        for i in better:
            self._values[i] = values[i]
            for step, new in zip(strings, coded["strings"]):
                step[i] = new[i]
        self.result = {**self.result, "strings": strings}
        if "y_hat" in coded:
            y_hat = self.result["y_hat"].clone()
            y_hat[better] = coded["y_hat"][better]
            self.result["y_hat"] = y_hat
        return True


class _StochasticRounding:
    """Rounds up or down by chance, the more surely to the nearer integer the lower the temperature.

    What comes out lies between the integers, so that it has a gradient (the Gumbel-softmax
    distribution for two choices, with less noise).

    Args:
        seed: of the choices.
        device: of what is rounded.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self._generator = torch.Generator(device).manual_seed(seed)
        self._noise: dict[torch.Size, Tensor] = {}
        self._temperature = 1.0

    def begin(self, temperature: float) -> None:
        """A pass of the networks, in which rate and distortion see the same choices."""
        self._temperature = temperature
        self._noise.clear()

    def __call__(self, x: Tensor) -> Tensor:
        noise = self._noise.get(x.shape)
        if noise is None:
            uniform = torch.rand(x.shape, generator=self._generator, device=x.device)
            noise = uniform.clamp(1e-6, 1 - 1e-6).logit().to(x.dtype).mul_(_NOISE)
            self._noise[x.shape] = noise
        low = x.detach().floor()
        share = (x - low).clamp(_EDGE, 1 - _EDGE)
        preference = (share.atanh() - (1 - share).atanh()) / self._temperature
        return low + torch.sigmoid((preference + noise) / self._temperature)


def _descend(
    objective: _Objective,
    latents: _Latents,
    steps: int,
    seed: int,
    progress: Callable[[float], None] | None,
) -> None:
    """Refine latents in place, part after part."""
    shape = objective.x.shape
    multiple = int(getattr(objective.net, "downsampling_factor", 64))
    parts = [
        (rows, columns)
        for rows in _parts(shape[-2], multiple)
        for columns in _parts(shape[-1], multiple)
    ]
    rounding = _StochasticRounding(seed, latents.y.device)
    units = objective.net.quantizer_steps(**objective.arguments)
    done = 0
    for (rows, own_rows), (columns, own_columns) in parts:
        whole = latents.part(shape, rows, columns)
        # What is learned is in steps of the quantiser, so that one learning rate suits all rates.
        start = [tensor.clone() for tensor in whole.tensors()]
        free = [torch.zeros_like(tensor, requires_grad=True) for tensor in start]
        optimizer = torch.optim.Adam(free, lr=_LEARNING_RATE)
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = _LEARNING_RATE * (1 - step / steps)
            share = step / max(1, steps - 1)
            rounding.begin(_FIRST_TEMPERATURE * (_LAST_TEMPERATURE / _FIRST_TEMPERATURE) ** share)
            with torch.enable_grad(), relaxed_rounding(rounding):
                part = whole.moved(start, free, units)
                loss = objective.estimated(part, rows, columns)
                gradients = torch.autograd.grad(loss, free, allow_unused=True)
            for tensor, gradient in zip(free, gradients):
                tensor.grad = gradient
            optimizer.step()
            done += 1
            if progress is not None:
                progress(done / (steps * len(parts)))
        inside = latents.part(shape, own_rows, own_columns)
        offset_rows = slice(own_rows.start - rows.start, own_rows.stop - rows.start)
        offset_columns = slice(own_columns.start - columns.start, own_columns.stop - columns.start)
        part_shape = (rows.stop - rows.start, columns.stop - columns.start)
        refined = whole.moved(start, free, units).part(part_shape, offset_rows, offset_columns)
        for old, new in zip(inside.tensors(), refined.tensors()):
            old.copy_(new.detach())


def _parts(side: int, multiple: int) -> list[tuple[slice, slice]]:
    """Spans that cover a side, each with what of it is its own."""
    own = max(multiple, _PART // multiple * multiple)
    margin = -(-_MARGIN // multiple) * multiple
    if side <= own + 2 * margin:
        return [(slice(0, side), slice(0, side))]
    return [
        (
            slice(max(0, start - margin), min(side, start + own + margin)),
            slice(start, min(side, start + own)),
        )
        for start in range(0, side, own)
    ]
