# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The protocol that all latent codecs speak."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch.nn as nn
from torch import Tensor

__all__ = ["LatentCodec"]


class LatentCodec(nn.Module):
    """An entropy model of a latent, as a module that may contain other such modules.

    ``strings`` is a list of lists: one list for each coding step, with one ``bytes`` for each item
    of the batch. ``shape`` is whatever :meth:`decompress` needs to know about sizes.

    How a latent is coded, plainly or in synchrony, is up to the entropy models at the bottom and
    the session that a model opens (:mod:`compressai.entropy_models.session`); codecs do not know.
    In synchrony, :meth:`decompress` of the leaves gives ``"y_fine"`` besides: the values before
    they were rounded to what both sides share, for the synthesis of the image. A codec that joins
    the results of others joins it, too (:func:`join`); else the synthesis gets ``"y_hat"``.
    """

    def forward(self, y: Tensor, *args: Any) -> dict[str, Any]:
        """Likelihoods and reconstruction, differentiable.

        Args:
            y: latent ``(N, C, H, W)``.
            args: side information.

        Returns:
            ``{"likelihoods": {name: tensor}, "y_hat": tensor}``; hyper codecs give ``"params"``
            in place of ``"y_hat"``.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

    def compress(self, y: Tensor, *args: Any) -> dict[str, Any]:
        """Code a latent.

        Args:
            y: latent ``(N, C, H, W)``.
            args: side information.

        Returns:
            ``{"strings": [[bytes]], "shape": ..., "y_hat": tensor}``; hyper codecs give
            ``"params"`` in place of ``"y_hat"``.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no compress")

    def decompress(
        self, strings: Sequence[Sequence[bytes]], shape: Any, *args: Any, **kwargs: Any
    ) -> dict[str, Any]:
        """Decode a latent.

        Args:
            strings, shape: what :meth:`compress` gave. ``None`` in place of a string of a latent
                stands for one that is lost: its symbols are taken to be 0.
            args: side information.

        Returns:
            ``{"y_hat": tensor}``, perhaps ``"y_fine"``; hyper codecs give ``"params"``.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no decompress")


def join(
    outs: Sequence[Mapping[str, Tensor]], how: Callable[[list[Tensor]], Tensor]
) -> dict[str, Tensor]:
    """Join what several codecs decoded, name by name.

    Args:
        outs: one a codec; what not all of them give is left out.
        how: from the tensors of one name to one tensor.
    """
    names = [name for name in outs[0] if all(name in out for out in outs)]
    return {name: how([out[name] for out in outs]) for name in names}


def only_strings(strings: Sequence[Sequence[bytes]], codec: str) -> Sequence[bytes]:
    """The string list of a codec that has a single coding step."""
    if len(strings) != 1:
        raise ValueError(f"{codec} codes in one step, got {len(strings)} lists of strings")
    return strings[0]


def check_batch(strings: Sequence[Sequence[bytes]], codec: str) -> int:
    """Number of items in a batch, which must be the same in all coding steps."""
    sizes = {len(step) for step in strings}
    if len(sizes) != 1:
        raise ValueError(f"{codec}: all lists of strings must be of one length, got {sizes}")
    return sizes.pop()
