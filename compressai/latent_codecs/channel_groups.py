# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Latent codec that codes groups of channels (slices) in turn, in the context of earlier ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

from compressai.latent_codecs.base import LatentCodec, check_batch, join
from compressai.registry import register_module

__all__ = ["ChannelGroupsLatentCodec"]

SupportFilter = Callable[[int, Sequence[Tensor]], Sequence[Tensor]]


@register_module("ChannelGroupsLatentCodec")
class ChannelGroupsLatentCodec(LatentCodec):
    """Splits a latent into groups of channels and codes them one after another.

    The support of group ``k`` are reconstructions of earlier groups. How they meet the side
    information depends on ``side_in_context``:

    ===================  =========================================  ===============================
    ``side_in_context``  group 0                                    group ``k`` with support ``P``
    ===================  =========================================  ===============================
    ``False`` (ELIC)     ``side``                                   ``[context_k([P...]) | side]``
    ``True``             ``context_0(side)``                        ``context_k([side | P...])``
    ===================  =========================================  ===============================

    The callables should be functions of a module: then models can be pickled.

    Args:
        latent_codec: a codec for each group, under ``"y0"``, ``"y1"``, ...
        channel_context: a network for each group, under ``"y1"``, ..., and ``"y0"`` too with
            ``side_in_context``.
        groups: channels of each group.
        max_support_slices: only the *first* that many earlier groups are support; negative for
            all of them.
        support_filter: ``(k, earlier reconstructions) -> support``, in place of
            ``max_support_slices``.
        support_count_fn: ``k -> number of groups that support_filter gives``; the codec itself
            only keeps it, for those who size the networks of ``channel_context``.
        side_in_context: see above.

    Raises:
        ValueError: the keys do not fit the groups.

    Source: Minnen and Singh 2020 (slices); He et al. 2022 (uneven groups).
    """

    def __init__(
        self,
        latent_codec: Mapping[str, nn.Module],
        channel_context: Mapping[str, nn.Module],
        *,
        groups: Sequence[int],
        max_support_slices: int = -1,
        support_filter: SupportFilter | None = None,
        support_count_fn: Callable[[int], int] | None = None,
        side_in_context: bool = False,
    ) -> None:
        super().__init__()
        self.groups = list(groups)
        self.groups_acc = [0, *accumulate(self.groups)]
        self.max_support_slices = int(max_support_slices)
        self.support_filter = support_filter
        self.support_count_fn = support_count_fn
        self.side_in_context = bool(side_in_context)
        first = 0 if self.side_in_context else 1
        _check_keys("latent_codec", latent_codec, range(len(self.groups)))
        _check_keys("channel_context", channel_context, range(first, len(self.groups)))
        self.channel_context = nn.ModuleDict(channel_context)
        self.latent_codec = nn.ModuleDict(latent_codec)

    def __getitem__(self, key: str) -> nn.Module:
        return self.latent_codec[key]

    def merge_y(self, *args: Tensor) -> Tensor:
        """Join the support of a group; may be replaced on an instance."""
        return torch.cat(args, dim=1)

    def merge_params(self, *args: Tensor) -> Tensor:
        """Join context and side information; may be replaced on an instance."""
        return torch.cat(args, dim=1)

    def forward(self, y: Tensor, side_params: Tensor) -> dict[str, Any]:
        """Likelihoods and reconstruction.

        Args:
            y: ``(N, sum(groups), H, W)``.
            side_params: side information ``(N, D, H, W)``.

        Returns:
            ``{"likelihoods": {"y"}, "y_hat"}``.
        """
        y_hat: list[Tensor] = []
        likelihoods: list[Tensor] = []
        for k, y_k in enumerate(torch.split(y, self.groups, dim=1)):
            out = self.latent_codec[f"y{k}"](y_k, self._get_ctx_params(k, side_params, y_hat))
            y_hat.append(out["y_hat"])
            likelihoods.append(out["likelihoods"]["y"])
        return {
            "likelihoods": {"y": torch.cat(likelihoods, dim=1)},
            "y_hat": torch.cat(y_hat, dim=1),
        }

    def compress(self, y: Tensor, side_params: Tensor) -> dict[str, Any]:
        """``{"strings": those of group 0, group 1, ..., "shape": [one a group], "y_hat"}``.

        Raises:
            ValueError: the groups' codecs take different numbers of coding steps.
        """
        outs: list[dict[str, Any]] = []
        y_hat: list[Tensor] = []
        for k, y_k in enumerate(torch.split(y, self.groups, dim=1)):
            params = self._get_ctx_params(k, side_params, y_hat)
            outs.append(self.latent_codec[f"y{k}"].compress(y_k, params))
            y_hat.append(outs[-1]["y_hat"])
        steps = {len(out["strings"]) for out in outs}
        if len(steps) != 1:
            raise ValueError(f"all groups must be coded in one number of steps, got {steps}")
        return {
            "strings": [strings for out in outs for strings in out["strings"]],
            "shape": [out["shape"] for out in outs],
            "y_hat": torch.cat(y_hat, dim=1),
        }

    def decompress(
        self,
        strings: Sequence[Sequence[bytes]],
        shape: Sequence[Sequence[int]],
        side_params: Tensor,
    ) -> dict[str, Any]:
        """What the groups' codecs give, joined.

        Args:
            strings: those of all groups.
            shape: one a group, ``(H, W)`` or ``(C, H, W)``.
            side_params: side information ``(N, D, H, W)``.

        Raises:
            ValueError: the number of lists or shapes does not fit the groups.
        """
        steps, rest = divmod(len(strings), len(self.groups))
        if rest or steps == 0 or len(shape) != len(self.groups):
            raise ValueError(
                f"{len(self.groups)} groups cannot have {len(strings)} lists of strings and "
                f"{len(shape)} shapes"
            )
        check_batch(strings, type(self).__name__)
        y_hat: list[Tensor] = []
        outs: list[dict[str, Any]] = []
        for k in range(len(self.groups)):
            out = self.latent_codec[f"y{k}"].decompress(
                strings[steps * k : steps * (k + 1)],
                shape[k],
                self._get_ctx_params(k, side_params, y_hat),
            )
            y_hat.append(out["y_hat"])
            outs.append(out)
        return join(outs, lambda parts: torch.cat(parts, dim=1))

    def _select_support(self, k: int, y_hat_: Sequence[Tensor]) -> list[Tensor]:
        """The earlier groups that group ``k`` sees: the very tensors, in a list."""
        earlier = list(y_hat_[:k])
        if self.support_filter is not None:
            return list(self.support_filter(k, earlier))
        return earlier if self.max_support_slices < 0 else earlier[: self.max_support_slices]

    def _get_ctx_params(
        self,
        k: int,
        side_params: Tensor,
        y_hat_: Sequence[Tensor],
    ) -> Tensor:
        support = self._select_support(k, y_hat_)
        if self.side_in_context:
            params = self.merge_params(side_params, self.merge_y(*support)) if support else None
            params = side_params if params is None else params
            return self.channel_context[f"y{k}"](params)
        if k == 0:
            return side_params
        if not support:
            raise ValueError(
                f"group {k} has no support; without side_in_context every group after the first "
                "needs some (see max_support_slices, support_filter)"
            )
        context = self.channel_context[f"y{k}"](self.merge_y(*support))
        return self.merge_params(context, side_params)


def _check_keys(name: str, modules: Mapping[str, nn.Module], indexes: range) -> None:
    wanted = [f"y{k}" for k in indexes]
    missing = [key for key in wanted if key not in modules]
    if missing or len(modules) != len(wanted):
        raise ValueError(f"{name} must have the keys {wanted}, got {list(modules)}")
