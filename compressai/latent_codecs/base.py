# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The protocol that all latent codecs speak."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn as nn
from torch import Tensor

__all__ = ["LatentCodec"]


class LatentCodec(nn.Module):
    """An entropy model of a latent, as a module that may contain other such modules.

    ``strings`` is a list of lists: one list for each coding step, with one ``bytes`` for each item
    of the batch. ``shape`` is whatever :meth:`decompress` needs to know about sizes.

    Codecs of latents that are coded given parameters also take the keyword ``sync``: a
    :class:`~compressai.entropy_models.synchrony.SyncEncoder` in :meth:`compress`, a
    :class:`~compressai.entropy_models.synchrony.SyncDecoder` in :meth:`decompress`. Such strings
    decode to the same ``"y_hat"``, bit for bit, wherever rounding errors stay within a tolerance;
    they are others than without ``sync``. :meth:`decompress` then gives ``"y_fine"`` besides: the
    values before they were rounded to what both sides share, for the synthesis of the picture.
    Hyper codecs take ``sync`` too, as their parameters come out of a network. A codec that is never
    used so need not know the keyword.
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
            ``{"y_hat": tensor}``; hyper codecs give ``"params"``.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no decompress")


def with_sync(sync: Any) -> dict[str, Any]:
    """Keywords to hand on ``sync``; none without it, for codecs that do not know it."""
    return {} if sync is None else {"sync": sync}


def through(sync: Any, output: Tensor) -> Tensor:
    """The output of a network that both sides run."""
    return output if sync is None else sync.network(output)


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
