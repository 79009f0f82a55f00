# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The preparation of a model for inference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compressai.inference.exact import make_exact
from compressai.inference.folding import fold
from compressai.inference.fusion import (
    can_fuse_convolutions,
    fuse,
    last_layer,
    replace_module,
)
from compressai.inference.memory import reused_memory
from compressai.inference.native import use_kernels
from compressai.inference.native_attention import use_window_kernels
from compressai.inference.precision import choose_precision
from compressai.inference.samples import scale_input
from compressai.inference.transforms import (
    TRANSFORMS,
    Model,
    check_model,
    copy_transform,
    shallow_copy,
    smallest_picture,
)
from compressai.models import CompressionModel

__all__ = ["Preparation", "prepare"]


@dataclass(frozen=True)
class Preparation:
    """How a model was prepared; the attribute ``preparation`` of what :func:`prepare` returns.

    Attributes:
        reference: the model that was prepared, as it was.
        dtype: what its transforms compute in.
        channels_last: whether their feature maps are in channels-last layout.
        compile: whether they are compiled.
        same_strings: whether ``g_a`` is in float32 and left as it is in all that changes digits.
    """

    reference: CompressionModel
    dtype: torch.dtype
    channels_last: bool
    compile: bool
    same_strings: bool


def prepare(
    net: Model,
    precision: str = "auto",
    channels_last: bool = True,
    compile: bool = False,
    *,
    same_strings: bool = True,
) -> Model:
    """Return a model like ``net`` whose transforms are fast; ``net`` itself stays as it is.

    ``g_a`` and ``g_s`` are converted copies. All else is shared with ``net``, state dict and
    fingerprint are those of ``net``, and what both encoder and decoder compute is computed by the
    same operations in float32. So every preparation decodes every string to the same ``y_hat``.

    Strings depend on ``g_a``. They are those of ``net``, byte for byte, because ``g_a`` stays in
    float32 and keeps its layout and its kernels, whatever ``precision`` is: others add in another
    order, so that now and then a value half-way between two integers is coded as the other one. It
    is made faster by what leaves every bit as it is. Say ``same_strings=False`` to have ``g_a``
    made as fast as ``g_s``.

    While a transform runs, the process keeps freed memory for it to use again, and afterwards up to
    4 GiB, or a quarter of the machine's, for the next one (Linux with glibc).

    In bfloat16, the last layer of either transform stays in float32, so that images do not lose
    digits that they are measured with, and ``g_a`` takes samples times 255: whole numbers, which
    bfloat16 holds exactly.

    Args:
        net: model in evaluation mode, on the device where it is to run. A model that is prepared
            already is prepared anew from what it was made of.
        precision: ``"fp32"``, ``"bf16"``, or ``"auto"``: bfloat16 where it is the faster one (see
            :func:`~compressai.inference.has_native_bfloat16`), else float32.
        channels_last: keep feature maps in channels-last layout, which most convolutions prefer.
        compile: hand the transforms to :func:`torch.compile`. The first picture of a size then
            takes minutes; for programs that code many.
        same_strings: let ``compress`` give the strings of ``net``, which rules out bfloat16 and
            faster kernels in ``g_a``.

    Returns:
        A model of the same class. It refuses to run if weights of ``net`` changed or moved since.

    Raises:
        TypeError: ``net`` is no :class:`~compressai.models.CompressionModel`.
        ValueError: ``net`` is in training mode or has no ``g_a`` and ``g_s``, or unknown
            ``precision``.
    """
    reference = check_model(net)
    probe = smallest_picture(reference)
    dtype = choose_precision(precision, probe.device)
    preparation = Preparation(
        reference, dtype, bool(channels_last), bool(compile), bool(same_strings)
    )

    prepared = shallow_copy(reference)
    for name in TRANSFORMS:
        network, probe = _convert(reference, name, probe, preparation)
        # Past nn.Module, which would register it: state dict and fingerprint are those of `net`.
        vars(prepared)[name] = network
    vars(prepared)["preparation"] = preparation
    return prepared


class _PreparedTransform:
    """A converted transform, from float32 in the default layout to the same.

    Args:
        network: what does the work.
        sources: modules that its weights were taken from.
        dtype: what it takes.
        layout: memory format of what it takes.
        scale: what the input is multiplied by first.
    """

    def __init__(
        self,
        network: Callable[[Tensor], Tensor],
        sources: list[nn.Module],
        dtype: torch.dtype,
        layout: torch.memory_format,
        scale: int,
    ) -> None:
        self._network = network
        self._scale = scale
        self._sources = sources
        self._dtype = dtype
        self._layout = layout
        self._state = _state(sources)

    def __call__(self, x: Tensor) -> Tensor:
        if any(source.training for source in self._sources):
            raise ValueError("a prepared model cannot be trained: train the one it was made of")
        if _state(self._sources) != self._state:
            raise ValueError("weights changed or moved since prepare(): call prepare() again")
        with torch.no_grad(), reused_memory():
            # Before it is rounded to the other type.
            x = x if self._scale == 1 else x * self._scale
            out = self._network(x.to(self._dtype, memory_format=self._layout))
        # One layout for all that follows: kernels, and with them the last digits, depend on it.
        return out.to(torch.float32, memory_format=torch.contiguous_format)


def _state(sources: list[nn.Module]) -> list[tuple[int, int]]:
    """Changes when weights do: where they are, and how often they were written to."""
    return [
        (tensor.data_ptr(), -1 if tensor.is_inference() else tensor._version)
        for source in sources
        for tensor in (*source.parameters(), *source.buffers())
    ]


def _convert(
    net: CompressionModel, name: str, probe: Tensor, preparation: Preparation
) -> tuple[_PreparedTransform, Tensor]:
    """The converted transform, and what the original one makes of ``probe``."""
    copied = copy_transform(net, name)
    network, call = copied.network, copied.call
    exact = name == "g_a" and preparation.same_strings
    dtype = torch.float32 if exact else preparation.dtype
    layout = torch.contiguous_format
    scale = 1
    with torch.no_grad():
        last, result = last_layer(network, call, probe)
        fold(network)
        if dtype != torch.float32:
            if name == "g_a":
                scale = scale_input(network, call, probe)
            replace_module(network, last, _Float32(last))
        if exact and can_fuse_convolutions(probe.device, dtype):
            make_exact(network)
        if not exact and not preparation.compile:
            if preparation.channels_last and dtype == torch.float32 and probe.device.type == "cpu":
                use_window_kernels(network)
                use_kernels(network)
            fuse(network, dtype, probe.device)
        network.to(dtype)
        last.float()
        if preparation.channels_last and not exact:
            layout = torch.channels_last
            network.to(memory_format=layout)
    if preparation.compile and not exact:
        call = torch.compile(call)
    return _PreparedTransform(call, copied.sources, dtype, layout, scale), result


class _Float32(nn.Module):
    """A layer that computes in float32 whatever surrounds it."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.float())
