# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Networks that compute the same bits everywhere: integers in floating-point tensors.

Floating-point sums are exact, and so do not depend on the order of their terms, as long as all
terms are multiples of one power of two and no partial sum reaches 2^24 times it. The layers here
keep to that: weights and activations are integers (times powers of two), each output channel is
checked against the bound when weights are loaded, and non-linearities are tables. The convolutions
are those of torch.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "EXACT_BELOW",
    "INPUT_LIMIT",
    "LARGEST_OPERAND",
    "FixedPointOutput",
    "IntegerConv2d",
    "IntegerInput",
    "IntegerNetwork",
    "LookUp",
    "power_of_two",
]

# float32 has 24 bits of significand.
EXACT_BELOW = 2**24
# Operands of 11 bits are exact in TF32, too, which CUDA devices may use.
LARGEST_OPERAND = 2**11
# Greatest magnitude of what goes into a network; wider is no better, as weights get coarser.
INPUT_LIMIT = 2**10 - 1
# What power_of_two has the negative of, too.
_EXPONENTS = range(-126, 127)
# What buffers are declared as, by name.
_DTYPES = {
    "weight": torch.int16,
    "bias": torch.int32,
    "table": torch.int16,
    "exponent": torch.int8,
}
# From this number of images on, torch may take a kernel of NNPACK that transforms its inputs, and
# so does not sum products.
_NNPACK_BATCH = 16


def power_of_two(exponent: Tensor, dtype: torch.dtype) -> Tensor:
    """``2^exponent`` to the last bit, which logarithms and powers do not promise.

    Args:
        exponent: integers from -126 to 127.
        dtype: of the result.
    """
    return ((exponent.to(torch.int32) + 127) << 23).view(torch.float32).to(dtype)


class _IntegerLayer(nn.Module):
    """Keeps the floating-point form of its integers for as long as these stay the same."""

    def __init__(self) -> None:
        super().__init__()
        self._known: tuple[Any, tuple[Tensor, ...]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_known": None}

    def _convert(self, dtype: torch.dtype) -> tuple[Tensor, ...]:
        raise NotImplementedError

    def _floats(self, dtype: torch.dtype) -> tuple[Tensor, ...]:
        buffers = self._buffers.values()
        known = self._known
        if any(buffer.is_inference() for buffer in buffers):
            return self._convert(dtype)  # such tensors do not tell when they change
        state = (dtype, [(buffer.data_ptr(), buffer._version) for buffer in buffers])
        if known is None or known[0] != state:
            # Not in inference mode: gradients of what is upstream may pass here later.
            with torch.inference_mode(False):
                known = self._known = (state, self._convert(dtype))
        return known[1]

    def check(self, prefix: str) -> None:
        """Check that buffers are what they are declared as.

        Args:
            prefix: what their names begin with in the message.

        Raises:
            ValueError: they are not.
        """
        for name, buffer in self.named_buffers():
            _check_dtype(prefix + name, buffer, name)
            if name != "exponent":
                continue
            for exponent in (int(buffer.min()), int(buffer.max())):
                if exponent not in _EXPONENTS:
                    raise ValueError(
                        f"{prefix}exponent: must be within {_EXPONENTS[0]}..{_EXPONENTS[-1]}, got "
                        f"{exponent}"
                    )

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        for name, _ in self.named_buffers():
            # Or the copy into the buffer would round and wrap without a word.
            if isinstance(state_dict.get(prefix + name), Tensor):
                _check_dtype(prefix + name, state_dict[prefix + name], name)
        super()._load_from_state_dict(state_dict, prefix, *args)


def _check_dtype(key: str, buffer: Tensor, name: str) -> None:
    if buffer.dtype != _DTYPES[name]:
        raise ValueError(f"{key}: must be integers of {_DTYPES[name]}, got {buffer.dtype}")


class IntegerInput(_IntegerLayer):
    """Rounds values to integers: ``round(x * 2^exponent)``, clamped to ``INPUT_LIMIT``.

    Args:
        channels: width ``C``.

    Attributes:
        exponent: int8 ``(C,)``.

    Shape: ``(N, C, H, W)``, input and output alike.
    """

    exponent: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("exponent", torch.zeros(channels, dtype=_DTYPES["exponent"]))

    def _convert(self, dtype: torch.dtype) -> tuple[Tensor, ...]:
        return (power_of_two(self.exponent, dtype)[:, None, None],)

    def forward(self, x: Tensor) -> Tensor:
        (scale,) = self._floats(x.dtype)
        return (x * scale).round_().clamp_(-INPUT_LIMIT, INPUT_LIMIT)


class IntegerConv2d(_IntegerLayer):
    """Convolution, or transposed convolution, whose weights are integers times powers of two.

    Those of output channel ``o`` are ``weight[o] * 2^-exponent[o]``, and its bias is
    ``bias[o] * 2^-exponent[o]``.

    Args:
        layer: a convolution of torch to take the sizes of, with a bias, and without groups,
            dilation and other padding than zeros. Its weights are not taken: all are 0.

    Attributes:
        weight: int16, shaped as in ``layer``.
        bias: int32 ``(out_channels,)``.
        exponent: int8 ``(out_channels,)``.

    Shape: as ``layer``.

    Raises:
        ValueError: ``layer`` is something else.
    """

    weight: Tensor
    bias: Tensor
    exponent: Tensor

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        if (
            not isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d))
            or layer.bias is None
            or layer.groups != 1
            or set(layer.dilation) != {1}
            or layer.padding_mode != "zeros"
            or isinstance(layer.padding, str)
        ):
            raise ValueError(
                "layer must be Conv2d or ConvTranspose2d with a bias, without groups and dilation, "
                f"and with numbers of zeros for padding, got {layer}"
            )
        self.stride, self.padding = layer.stride, layer.padding
        self.output_padding = layer.output_padding
        self.transposed = isinstance(layer, nn.ConvTranspose2d)
        width = layer.out_channels
        self.register_buffer("weight", torch.zeros(layer.weight.shape, dtype=_DTYPES["weight"]))
        self.register_buffer("bias", torch.zeros(width, dtype=_DTYPES["bias"]))
        self.register_buffer("exponent", torch.zeros(width, dtype=_DTYPES["exponent"]))

    @property
    def output_axis(self) -> int:
        """The axis of ``weight`` that output channels are along."""
        return 1 if self.transposed else 0

    def largest_sums(self, limit: int) -> Tensor:
        """Bound of all partial sums of each output channel, in units of its weights.

        Args:
            limit: greatest magnitude of the inputs, which are integers.

        Returns:
            int64 ``(out_channels,)``.
        """
        magnitudes = self.weight.to(torch.int64).abs().movedim(self.output_axis, 0)
        if self.transposed:
            # Each output meets the weights of one phase only.
            rows, columns = self.stride
            phases = [
                magnitudes[:, :, i::rows, j::columns].sum(dim=(1, 2, 3))
                for i in range(rows)
                for j in range(columns)
            ]
            sums = torch.stack(phases).amax(dim=0)
        else:
            sums = magnitudes.sum(dim=(1, 2, 3))
        return sums * limit + self.bias.to(torch.int64).abs()

    def _convert(self, dtype: torch.dtype) -> tuple[Tensor, ...]:
        scale = power_of_two(-self.exponent, dtype)
        sides = [-1 if axis == self.output_axis else 1 for axis in range(4)]
        return self.weight * scale.view(sides), self.bias * scale

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self._floats(x.dtype)
        if x.device.type != "cpu":
            return self._by_products(x, weight, bias)
        if self.transposed:
            return F.conv_transpose2d(
                x, weight, bias, self.stride, self.padding, self.output_padding
            )
        if len(x) < _NNPACK_BATCH:
            return F.conv2d(x, weight, bias, self.stride, self.padding)
        parts = x.split(_NNPACK_BATCH - 1)
        return torch.cat([F.conv2d(p, weight, bias, self.stride, self.padding) for p in parts])

    def _by_products(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """The same as products of matrices, because other devices may transform for convolutions.

        Winograd's and Fourier's transforms have fractions, so that their sums are not exact.
        """
        windows: dict[str, Any] = {
            "kernel_size": weight.shape[2:],
            "padding": self.padding,
            "stride": self.stride,
        }
        geometry = list(zip(x.shape[2:], weight.shape[2:], self.padding, self.stride))
        if self.transposed:
            sides = [
                (side - 1) * stride - 2 * padding + kernel + more
                for (side, kernel, padding, stride), more in zip(geometry, self.output_padding)
            ]
            out = F.fold(weight.flatten(1).T @ x.flatten(2), sides, **windows)
        else:
            sides = [
                (side + 2 * padding - kernel) // stride + 1
                for side, kernel, padding, stride in geometry
            ]
            out = (weight.flatten(1) @ F.unfold(x, **windows)).unflatten(2, sides)
        return out + bias[:, None, None]


class LookUp(_IntegerLayer):
    """A function of integers as a table: inputs are rounded, and clamped to its ends.

    Attributes:
        table: int16 ``(SIZE,)``, values for ``-SIZE / 2`` to ``SIZE / 2 - 1``.

    Shape: any, input and output alike.
    """

    SIZE = 2**12
    table: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.zeros(self.SIZE, dtype=_DTYPES["table"]))

    def _convert(self, dtype: torch.dtype) -> tuple[Tensor, ...]:
        return (self.table.to(dtype),)

    def forward(self, x: Tensor) -> Tensor:
        (table,) = self._floats(x.dtype)
        index = x.round().add_(self.SIZE // 2).clamp_(0, self.SIZE - 1).to(torch.int32)
        # The quickest of torch's ways to look up, by far.
        return table.index_select(0, index.reshape(-1)).view(x.shape)


class FixedPointOutput(_IntegerLayer):
    """Rounds to integers and gives these their place value: ``round(x) * 2^-exponent``.

    Attributes:
        exponent: int8 ``()``.

    Shape: any, input and output alike.
    """

    exponent: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("exponent", torch.zeros((), dtype=_DTYPES["exponent"]))

    def _convert(self, dtype: torch.dtype) -> tuple[Tensor, ...]:
        return (power_of_two(-self.exponent, dtype),)

    def forward(self, x: Tensor) -> Tensor:
        (unit,) = self._floats(x.dtype)
        return x.round() * unit


class IntegerNetwork(nn.Sequential):
    """Convolutions of integers with tables between, from values in fixed point to such.

    The layers are ``input`` (:class:`IntegerInput`), convolutions with the names that they have in
    the network that this one is like (``0``, ``2``, ...), a :class:`LookUp` behind each (``table1``
    and so on), and ``output`` (:class:`FixedPointOutput`). It computes in float32, or in float64 if
    its input is that, whatever autocast says, and is for inference: rounding has no gradient.

    Args:
        network: convolutions with non-linearities between, to take the sizes of.
        table_at_end: whether there is a table behind the last convolution, too.

    Shape: as ``network``.

    Raises:
        ValueError: ``network`` has other layers. When weights are loaded: they have another type,
            or are so large that sums might not be exact; the message names the layer.
    """

    def __init__(self, network: nn.Sequential, table_at_end: bool = False) -> None:
        if len(network) % 2 == 0:
            raise ValueError(
                f"network must be convolutions with non-linearities between, got {network}"
            )
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["input"] = IntegerInput(getattr(network[0], "in_channels", 0))
        for place in range(0, len(network), 2):
            layers[str(place)] = IntegerConv2d(network[place])
            if place + 1 < len(network) or table_at_end:
                layers[f"table{place + 1}"] = LookUp()
        layers["output"] = FixedPointOutput()
        super().__init__(layers)
        self._prefix = ""
        self.register_load_state_dict_post_hook(_check_loaded)

    def check(self, prefix: str = "") -> None:
        """Check that all layers have integers, and that all sums are exact, whatever the input.

        Args:
            prefix: what the names of layers begin with in the message.

        Raises:
            ValueError: a buffer has another type, an exponent is out of range, or a sum need not be
                exact.
        """
        limit = INPUT_LIMIT
        for name, layer in self.named_children():
            layer.check(f"{prefix}{name}.")
            if isinstance(layer, LookUp):
                limit = int(layer.table.to(torch.int32).abs().max())
            elif isinstance(layer, IntegerConv2d):
                largest = max(limit, int(layer.weight.to(torch.int32).abs().max()))
                if largest > LARGEST_OPERAND:
                    raise ValueError(
                        f"{prefix}{name}: weights and inputs must be integers of at most "
                        f"{LARGEST_OPERAND}, got {largest}"
                    )
                sums = layer.largest_sums(limit)
                worst = int(sums.argmax())
                if sums[worst] >= EXACT_BELOW:
                    raise ValueError(
                        f"{prefix}{name}: sums of output channel {worst} must stay below 2^24 = "
                        f"{EXACT_BELOW} to be exact, but its weights and bias may add up to "
                        f"{int(sums[worst])}"
                    )

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        kind = x.device.type
        if not torch.amp.is_autocast_available(kind) or not torch.is_autocast_enabled(kind):
            return super().forward(x)
        with torch.autocast(kind, enabled=False):
            return super().forward(x)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        self._prefix = prefix
        super()._load_from_state_dict(state_dict, prefix, *args)


def _check_loaded(network: IntegerNetwork, _keys: Sequence[Any]) -> None:
    network.check(network._prefix)
