# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Convolutions whose weights are trained in the frequency domain."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["SpectralConv2d", "SpectralConvTranspose2d"]


class _SpectralWeight:
    """Mixin before a torch convolution: swaps ``weight`` for its spectrum after construction."""

    _parameters: dict[str, nn.Parameter | None]
    kernel_size: tuple[int, int]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        weight = self._parameters.pop("weight")
        spectrum = torch.fft.rfftn(weight.detach(), s=self.kernel_size, dim=(-2, -1), norm="ortho")
        self.weight_transformed = nn.Parameter(spectrum)

    @property
    def weight(self) -> Tensor:
        """The spatial weight, computed from ``weight_transformed``; cannot be assigned."""
        spectrum = self._parameters.get("weight_transformed")
        if spectrum is None:
            # Under construction torch's own parameter is still in place (or not there yet, which
            # nn.Module wants to hear as AttributeError).
            try:
                return self._parameters["weight"]
            except KeyError:
                raise AttributeError("weight") from None
        if not spectrum.is_complex():
            raise TypeError(
                f"weight_transformed must be complex, got {spectrum.dtype}: a cast of the module to"
                " a real dtype dropped its imaginary part; pass dtype= to the constructor instead"
            )
        return torch.fft.irfftn(spectrum, s=self.kernel_size, dim=(-2, -1), norm="ortho")


class SpectralConv2d(_SpectralWeight, nn.Conv2d):
    """:class:`torch.nn.Conv2d` that stores the real 2-D FFT of its kernels.

    The optimiser then sees frequencies with separate second moments, which helps small steps of
    low frequencies. State-dict keys: ``bias``, ``weight_transformed`` (complex64,
    ``(out, in // groups, kh, kw // 2 + 1)``, orthonormal scaling). ``weight`` is a read-only
    property.

    Args:
        args: positional arguments of :class:`torch.nn.Conv2d`.
        kwargs: keyword arguments of :class:`torch.nn.Conv2d`.

    Shape: as :class:`torch.nn.Conv2d`.
    Raises:
        TypeError: (forward) ``Module.to(dtype)`` with a real dtype has destroyed the spectrum, as
            torch then drops imaginary parts. Choose the precision with ``dtype=`` here.
    Source: Ballé et al. 2018, "Efficient nonlinear transforms for lossy image compression", sec. 2.
    """


class SpectralConvTranspose2d(_SpectralWeight, nn.ConvTranspose2d):
    """:class:`torch.nn.ConvTranspose2d` that stores the real 2-D FFT of its kernels.

    As :class:`SpectralConv2d`; the first two axes keep torch's order ``(in, out // groups)``.
    """
