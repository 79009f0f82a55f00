# SPDX-License-Identifier: BSD-3-Clause-Clear
"""A dictionary that all slices share, and the head that predicts a slice with its help."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

from compressai.latent_codecs._slice_helpers import make_entropy_transform
from compressai.layers.attn.dictionary import MultiScaleDictionaryCrossAttentionGLU

__all__ = [
    "DictionaryMeanScaleContextHead",
    "SharedDictionary",
    "build_dictionary_mean_scale_head",
]


class SharedDictionary(nn.Module):
    """A trained table of typical structures.

    A model owns one; its heads hold the bound method :meth:`expand_for`. So the table is in the
    state dict once, and copies and pickles of the model have heads that use the copy's table.
    (Replicas of :class:`torch.nn.DataParallel` would use that of the original; use distributed
    data parallel.)

    Args:
        dict_num: number of entries.
        dictionary_dim: width of an entry.

    State dict: ``dt`` ``(dict_num, dictionary_dim)``.
    Raises:
        ValueError: a size below 1.

    Source: Lu et al. 2025, "Learned image compression with dictionary-based entropy model".
    """

    def __init__(self, dict_num: int, dictionary_dim: int) -> None:
        super().__init__()
        if dict_num < 1 or dictionary_dim < 1:
            raise ValueError(
                "dict_num and dictionary_dim must be positive, got "
                f"dict_num={dict_num}, dictionary_dim={dictionary_dim}"
            )
        self.dt = nn.Parameter(torch.randn(dict_num, dictionary_dim))

    def expand_for(self, batch_size: int) -> Tensor:
        """The table for each image of a batch, without copying it.

        Args:
            batch_size: number of images.

        Returns:
            View ``(batch_size, dict_num, dictionary_dim)``.
        """
        return self.dt.unsqueeze(0).expand(batch_size, -1, -1)


class DictionaryMeanScaleContextHead(nn.Module):
    """Two predictors that see the input and what a dictionary has for it.

    With ``S = [x | cross_attention(x, dictionary)]`` the output is ``[scale_cc(S) | mean_cc(S)]``.

    Args:
        cross_attention: network from ``x`` and a dictionary to a map.
        mean_cc: network from ``S`` to means.
        scale_cc: network from ``S`` to scales.
        dictionary_provider: ``batch size -> dictionary (batch size, n, D)``, best
            :meth:`SharedDictionary.expand_for` of the model's dictionary.
        emit_mean_support: append ``S`` to the output, for a residual prediction to see.
        side_split: width of the means' half of the side information in ``x``, for those who
            predict something else from it; the head does not use it.

    Shape: ``(N, C, H, W)`` to ``(N, D, H, W)``, ``D`` twice the width of a slice, and that of
    ``S`` on top if it is emitted.

    Source: Lu et al. 2025, as :class:`SharedDictionary`.
    """

    def __init__(
        self,
        cross_attention: nn.Module,
        mean_cc: nn.Module,
        scale_cc: nn.Module,
        *,
        dictionary_provider: Callable[[int], Tensor],
        emit_mean_support: bool = False,
        side_split: int = 0,
    ) -> None:
        super().__init__()
        self.cross_attention = cross_attention
        self.mean_cc = mean_cc
        self.scale_cc = scale_cc
        self.dictionary_provider = dictionary_provider
        self.emit_mean_support = bool(emit_mean_support)
        self.side_split = int(side_split)

    def forward(self, x: Tensor) -> Tensor:
        found = self.cross_attention(x, self.dictionary_provider(x.size(0)))
        support = torch.cat((x, found), dim=1)
        out = [self.scale_cc(support), self.mean_cc(support)]
        return torch.cat([*out, support] if self.emit_mean_support else out, dim=1)

    def extra_repr(self) -> str:
        return f"side_split={self.side_split}, emit_mean_support={self.emit_mean_support}"


def build_dictionary_mean_scale_head(
    slice_ch: int,
    support_ch: int,
    *,
    shared_dictionary: SharedDictionary,
    dict_output_ch: int,
    cross_attention_kwargs: Mapping[str, Any] | None = None,
    widths: Sequence[int] = (224, 128),
    emit_mean_support: bool = False,
    side_split: int = 0,
) -> DictionaryMeanScaleContextHead:
    """Make a head with predictors of :func:`make_entropy_transform`.

    Args:
        slice_ch: width of the slice.
        support_ch: width of the head's whole input.
        shared_dictionary: the model's dictionary.
        dict_output_ch: width of what the dictionary adds to the support.
        cross_attention_kwargs: further arguments of
            :class:`~compressai.layers.attn.dictionary.MultiScaleDictionaryCrossAttentionGLU`.
        widths: hidden widths of both predictors.
        emit_mean_support: as in :class:`DictionaryMeanScaleContextHead`.
        side_split: as there.

    Returns:
        The head.

    Raises:
        ValueError: the number of heads does not divide the width of the dictionary.
    """
    support = support_ch + dict_output_ch
    return DictionaryMeanScaleContextHead(
        MultiScaleDictionaryCrossAttentionGLU(
            support_ch,
            dict_output_ch,
            **{
                "dictionary_dim": shared_dictionary.dt.size(1),
                **(cross_attention_kwargs or {}),
            },
        ),
        make_entropy_transform(support, slice_ch, widths=widths),
        make_entropy_transform(support, slice_ch, widths=widths),
        dictionary_provider=shared_dictionary.expand_for,
        emit_mean_support=emit_mean_support,
        side_split=side_split,
    )
