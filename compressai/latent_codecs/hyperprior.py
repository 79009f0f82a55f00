# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Latent codec that joins the codec of side information with the codec of what it describes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn as nn
from torch import Tensor

from compressai.latent_codecs.base import LatentCodec, check_batch
from compressai.registry import register_module

__all__ = ["HyperpriorLatentCodec"]


# Where the parts of the side information are: in a codec "hyper", and outside of a codec "z".
_SAME_PLACES = (
    ("hyper.h_a.", "h_a."),
    ("hyper.h_s.", "h_s."),
    ("hyper.entropy_bottleneck.", "z.entropy_bottleneck."),
)


@register_module("HyperpriorLatentCodec")
class HyperpriorLatentCodec(LatentCodec):
    """Codes a latent ``y`` given side information ``z`` that is computed from it.

    Two layouts. With ``"hyper"``, a :class:`~compressai.latent_codecs.HyperLatentCodec` holds the
    hyper transforms. With ``"z"``, any latent codec codes ``h_a(y)`` and this class holds the
    transforms::

        HyperpriorLatentCodec({"y": ..., "hyper": HyperLatentCodec(...)})
        HyperpriorLatentCodec({"y": ..., "z": ...}, h_a=..., h_s=...)

    Weights of either layout load into the other, as far as their modules are the same.

    Args:
        latent_codec: the codecs, ``"y"`` and one of ``"hyper"`` and ``"z"``.
        h_a: hyper analysis, from ``y`` to ``z``; ``None`` is the identity. With ``h_a`` or
            ``h_s`` given, the key ``"hyper"`` means ``"z"``.
        h_s: hyper synthesis, from ``z_hat`` to the side information of ``"y"``; as ``h_a``.

    Raises:
        ValueError: the keys of ``latent_codec`` are others.

    Source: Ballé et al. 2018, "Variational image compression with a scale hyperprior".
    """

    def __init__(
        self,
        latent_codec: Mapping[str, nn.Module],
        h_a: nn.Module | None = None,
        h_s: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if set(latent_codec) not in ({"y", "hyper"}, {"y", "z"}):
            raise ValueError(
                f"latent_codec must have the keys 'y' and 'hyper', or 'y' and 'z', got "
                f"{sorted(latent_codec)}"
            )
        outer_transforms = h_a is not None or h_s is not None
        self._side = "z" if "z" in latent_codec or outer_transforms else "hyper"
        if self._side == "z":
            self.h_a = nn.Identity() if h_a is None else h_a
            self.h_s = nn.Identity() if h_s is None else h_s
        self.add_module("y", latent_codec["y"])
        self.add_module(self._side, latent_codec["z" if "z" in latent_codec else "hyper"])

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        self.adopt_layout(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def adopt_layout(self, state_dict: dict[str, Any], prefix: str) -> None:
        """Give weights the layout of this codec: releases of CompressAI differ in it.

        Args:
            state_dict: changed.
            prefix: of the names of this codec.
        """
        for hyper, outer in _SAME_PLACES:
            old, new = (outer, hyper) if self._side == "hyper" else (hyper, outer)
            for key in [key for key in state_dict if key.startswith(prefix + old)]:
                renamed = prefix + new + key[len(prefix + old) :]
                if renamed not in state_dict:
                    state_dict[renamed] = state_dict.pop(key)

    @property
    def latent_codec(self) -> dict[str, nn.Module]:
        """The codecs by name."""
        return {name: getattr(self, name) for name in ("y", self._side)}

    def __getitem__(self, key: str) -> nn.Module:
        return self.latent_codec[key]

    def forward(self, y: Tensor) -> dict[str, Any]:
        """Likelihoods and reconstruction.

        Args:
            y: ``(N, C, H, W)``.

        Returns:
            ``{"likelihoods": {"y", "z"}, "y_hat", "params"}``; ``params`` is the side information
            that ``y`` was coded with, for those who predict something else from it. With a codec
            ``"z"`` also ``"z_hat"``.
        """
        extra = {}
        if self._side == "hyper":
            side = self.hyper(y)
            params, z_likelihoods = side["params"], side["likelihoods"]["z"]
        else:
            side = self.z(self.h_a(y))
            params, z_likelihoods = self.h_s(side["y_hat"]), side["likelihoods"]["y"]
            extra = {"z_hat": side["y_hat"]}
        out = self.y(y, params)
        return {
            "likelihoods": {"y": out["likelihoods"]["y"], "z": z_likelihoods},
            "y_hat": out["y_hat"],
            "params": params,
            **extra,
        }

    def compress(self, y: Tensor) -> dict[str, Any]:
        """``{"strings": [*y, z], "shape": {"y", "hyper" or "z"}, "y_hat"}``."""
        if self._side == "hyper":
            side = self.hyper.compress(y)
            params = side["params"]
        else:
            side = self.z.compress(self.h_a(y))
            params = self.h_s(side["y_hat"])
        if len(side["strings"]) != 1:
            raise ValueError(f"codec {self._side!r} must code in one step")
        out = self.y.compress(y, params)
        return {
            "strings": [*out["strings"], *side["strings"]],
            "shape": {"y": out["shape"], self._side: side["shape"]},
            "y_hat": out["y_hat"],
        }

    def decompress(
        self, strings: Sequence[Sequence[bytes]], shape: Mapping[str, Any]
    ) -> dict[str, Any]:
        """What the codec of ``y`` gives.

        Raises:
            ValueError: fewer than two lists of strings, or of different lengths.
        """
        if len(strings) < 2:
            raise ValueError(f"strings must hold those of y and z, got {len(strings)} list(s)")
        check_batch(strings, type(self).__name__)
        *y_strings, z_strings = strings
        if self._side == "hyper":
            params = self.hyper.decompress([z_strings], shape["hyper"])["params"]
        else:
            z_hat = self.z.decompress([z_strings], shape["z"])["y_hat"]
            params = self.h_s(z_hat)
        return self.y.decompress(y_strings, shape["y"], params)
