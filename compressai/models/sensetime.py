# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Models by He and colleagues (SenseTime): checkerboard context and ELIC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count, takewhile
from typing import Any

import torch.nn as nn
from torch import Tensor

from compressai.entropy_models import EntropyBottleneck
from compressai.latent_codecs import (
    ChannelGroupsLatentCodec,
    CheckerboardLatentCodec,
    GaussianConditionalLatentCodec,
    HyperLatentCodec,
    HyperpriorLatentCodec,
)
from compressai.layers import (
    AttentionBlock,
    CheckerboardMaskedConv2d,
    ResidualBottleneckBlock,
    conv1x1,
    sequential_channel_ramp,
)
from compressai.models._loading import SizedModel
from compressai.models._state_dict import entry_size
from compressai.models.base import SimpleVAECompressionModel
from compressai.models.utils import conv, deconv
from compressai.models.waseda import (
    cheng_analysis,
    cheng_hyper_analysis,
    cheng_hyper_synthesis,
    cheng_synthesis,
)
from compressai.registry import (
    ModelEntry,
    at_qualities,
    known_lambdas,
    register_entry,
    register_model,
)

__all__ = [
    "Cheng2020AnchorCheckerboard",
    "Elic2022Chandelier",
    "Elic2022Official",
    "ResidualBottleneckBlock",
]


@register_model("cheng2020-anchor-checkerboard")
class Cheng2020AnchorCheckerboard(SizedModel, SimpleVAECompressionModel):
    """:class:`~compressai.models.Cheng2020Anchor` with a checkerboard context.

    Args:
        N: channels of everything.
        kwargs: handed to :class:`~compressai.models.CompressionModel`.

    Shape: ``x`` ``(N, 3, H, W)`` in [0, 1]; sides must be multiples of 64.

    Source: He et al. 2021, "Checkerboard context model for efficient learned image compression".
    """

    def __init__(self, N: int = 192, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.g_a = cheng_analysis(N)
        self.g_s = cheng_synthesis(N)
        entropy_parameters = nn.Sequential(
            nn.Conv2d(N * 12 // 3, N * 10 // 3, 1),
            nn.LeakyReLU(),
            nn.Conv2d(N * 10 // 3, N * 8 // 3, 1),
            nn.LeakyReLU(),
            nn.Conv2d(N * 8 // 3, N * 6 // 3, 1),
        )
        self.latent_codec = HyperpriorLatentCodec(
            {
                "y": _checkerboard(N, entropy_parameters, ("scales", "means")),
                "hyper": HyperLatentCodec(
                    EntropyBottleneck(N),
                    h_a=cheng_hyper_analysis(N),
                    h_s=cheng_hyper_synthesis(N),
                    quantizer="ste",
                ),
            }
        )
        self.N = N

    @classmethod
    def infer_arguments(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
        return {"N": entry_size(state_dict, "g_a.0.conv1.weight", 0, cls)}


def _checkerboard(
    channels: int, entropy_parameters: nn.Module, chunks: tuple[str, str]
) -> CheckerboardLatentCodec:
    return CheckerboardLatentCodec(
        {"y": GaussianConditionalLatentCodec(quantizer="ste", chunks=chunks)},
        entropy_parameters=entropy_parameters,
        context_prediction=CheckerboardMaskedConv2d(
            channels, 2 * channels, kernel_size=5, stride=1, padding=2
        ),
    )


class _Elic(SizedModel, SimpleVAECompressionModel):
    """What both variants of ELIC share; they differ in the entropy parameters and contexts."""

    chunks: tuple[str, str]

    def __init__(
        self, N: int = 192, M: int = 320, groups: Sequence[int] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.groups = [16, 16, 32, 64, M - 128] if groups is None else list(groups)
        if sum(self.groups) != M or min(self.groups) <= 0:
            raise ValueError(f"groups must be positive and sum up to M={M}, got {self.groups}")
        self.N = N
        self.M = M
        self.g_a = nn.Sequential(
            conv(3, N),
            *_bottlenecks(N),
            conv(N, N),
            *_bottlenecks(N),
            AttentionBlock(N),
            conv(N, N),
            *_bottlenecks(N),
            conv(N, M),
            AttentionBlock(M),
        )
        self.g_s = nn.Sequential(
            AttentionBlock(M),
            deconv(M, N),
            *_bottlenecks(N),
            deconv(N, N),
            AttentionBlock(N),
            *_bottlenecks(N),
            deconv(N, N),
            *_bottlenecks(N),
            deconv(N, 3),
        )
        h_a = nn.Sequential(
            conv(M, N, kernel_size=3, stride=1),
            nn.ReLU(),
            conv(N, N),
            nn.ReLU(),
            conv(N, N),
        )
        h_s = nn.Sequential(
            deconv(N, N),
            nn.ReLU(),
            deconv(N, N * 3 // 2),
            nn.ReLU(),
            self._last_hyper_synthesis(N, M),
        )
        groups_codec = ChannelGroupsLatentCodec(
            groups=self.groups,
            channel_context={f"y{k}": self._channel_context(k) for k in range(1, len(self.groups))},
            latent_codec={
                f"y{k}": _checkerboard(group, self._entropy_parameters(k), self.chunks)
                for k, group in enumerate(self.groups)
            },
            support_filter=self._support_filter,
        )
        self.latent_codec = HyperpriorLatentCodec(
            {
                "y": groups_codec,
                "hyper": HyperLatentCodec(EntropyBottleneck(N), h_a, h_s, quantizer="ste"),
            }
        )

    _support_filter: Any = None

    @staticmethod
    def _last_hyper_synthesis(N: int, M: int) -> nn.Module:
        raise NotImplementedError

    def _support_channels(self, k: int) -> int:
        raise NotImplementedError

    def _entropy_parameters(self, k: int) -> nn.Module:
        raise NotImplementedError

    def _parameter_channels(self, k: int, side_channels: int) -> int:
        """Input of the entropy parameters: spatial context, channel context, side information."""
        contexts = 1 if k == 0 else 2
        return contexts * 2 * self.groups[k] + side_channels

    def _channel_context(self, k: int) -> nn.Sequential:
        return nn.Sequential(
            conv(self._support_channels(k), 224, kernel_size=5, stride=1),
            nn.ReLU(),
            conv(224, 128, kernel_size=5, stride=1),
            nn.ReLU(),
            conv(128, 2 * self.groups[k], kernel_size=5, stride=1),
        )

    @classmethod
    def infer_arguments(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
        def context(k: int) -> str:
            return f"latent_codec.y.latent_codec.y{k}.context_prediction.weight"

        slices = takewhile(lambda k: context(k) in state_dict, count())
        return {
            "N": entry_size(state_dict, "g_a.0.weight", 0, cls),
            "M": entry_size(state_dict, "g_a.13.weight", 0, cls),
            "groups": [state_dict[context(k)].size(1) for k in slices],
        }


def _bottlenecks(N: int) -> list[nn.Module]:
    return [ResidualBottleneckBlock(N, N) for _ in range(3)]


@register_model("elic2022-official")
class Elic2022Official(_Elic):
    """ELIC as its authors describe it: uneven groups, each sees all earlier ones.

    Args:
        N: channels of the transforms and of ``z``.
        M: channels of the latent.
        groups: channels of each group; ``None`` takes 16, 16, 32, 64 and the rest.
        kwargs: handed to :class:`~compressai.models.CompressionModel`.

    Shape: ``x`` ``(N, 3, H, W)`` in [0, 1]; sides must be multiples of 64.

    Raises:
        ValueError: ``groups`` do not sum up to ``M``.

    Source: He et al. 2022, "ELIC: Efficient learned image compression with unevenly grouped
    space-channel contextual adaptive coding".
    """

    chunks = ("scales", "means")

    @staticmethod
    def _last_hyper_synthesis(N: int, M: int) -> nn.Module:
        return deconv(N * 3 // 2, N * 2, kernel_size=3, stride=1)

    def _support_channels(self, k: int) -> int:
        return sum(self.groups[:k])

    def _entropy_parameters(self, k: int) -> nn.Module:
        return sequential_channel_ramp(
            self._parameter_channels(k, side_channels=2 * self.N),
            2 * self.groups[k],
            min_ch=2 * self.N,
            num_layers=3,
            make_layer=nn.Conv2d,
            make_act=nn.ReLU,
            kernel_size=1,
            stride=1,
            padding=0,
        )


def _first_and_latest(k: int, earlier: Sequence[Tensor]) -> list[Tensor]:
    return [*earlier[:1], *earlier[max(1, k - 1) :]]


@register_model("elic2022-chandelier")
class Elic2022Chandelier(_Elic):
    """ELIC in the lighter variant by Chandelier: a group sees the first and the latest one.

    Args:
        N: channels of the transforms and of ``z``.
        M: channels of the latent.
        groups: channels of each group; ``None`` takes 16, 16, 32, 64 and the rest.
        kwargs: handed to :class:`~compressai.models.CompressionModel`.

    Shape: ``x`` ``(N, 3, H, W)`` in [0, 1]; sides must be multiples of 64.

    Raises:
        ValueError: ``groups`` do not sum up to ``M``.

    Source: He et al. 2022, as re-implemented by "Chandelier".
    """

    chunks = ("means", "scales")
    _support_filter = staticmethod(_first_and_latest)

    @staticmethod
    def _last_hyper_synthesis(N: int, M: int) -> nn.Module:
        return conv(N * 3 // 2, M * 2, kernel_size=3, stride=1)

    def _support_channels(self, k: int) -> int:
        return self.groups[0] + (self.groups[k - 1] if k > 1 else 0)

    def _entropy_parameters(self, k: int) -> nn.Module:
        return nn.Sequential(
            conv1x1(self._parameter_channels(k, side_channels=2 * self.M), self.M * 2),
            nn.ReLU(),
            conv1x1(self.M * 2, 512),
            nn.ReLU(),
            conv1x1(512, self.groups[k] * 2),
        )


# -- rows --------------------------------------------------------------------------------------

_ELIC = (
    "He et al. 2022, ELIC: Efficient learned image compression with unevenly grouped space-channel "
    "contextual adaptive coding"
)
_CHENG_SIZES = at_qualities((3, {"N": 128}), (6, {"N": 192}))
_ELIC_SIZES = at_qualities((8, {"N": 192, "M": 320}))
_ELIC_SMALL = {"N": 4, "M": 10, "groups": [2, 3, 5]}

register_entry(
    ModelEntry(
        name="cheng2020-anchor-checkerboard",
        model=Cheng2020AnchorCheckerboard,
        summary="Residual transforms with checkerboard context",
        paper="He et al. 2021, Checkerboard context model for efficient learned image compression",
        sizes=_CHENG_SIZES,
        needs_quality=True,
        losses=known_lambdas(*_CHENG_SIZES),
        small={"N": 4},
    )
)
register_entry(
    ModelEntry(
        name="elic2022-official",
        model=Elic2022Official,
        summary="Uneven groups of channels with space-channel context",
        paper=_ELIC,
        sizes=_ELIC_SIZES,
        needs_quality=True,
        losses=known_lambdas(),
        small=_ELIC_SMALL,
    )
)
register_entry(
    ModelEntry(
        name="elic2022-chandelier",
        model=Elic2022Chandelier,
        summary="ELIC in the lighter variant by Chandelier",
        paper=_ELIC,
        sizes=_ELIC_SIZES,
        needs_quality=True,
        losses=known_lambdas(),
        small=_ELIC_SMALL,
    )
)
