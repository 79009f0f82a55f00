# SPDX-License-Identifier: BSD-3-Clause-Clear
"""A channel-slice model of your own, in 30 lines: transforms, hyper transforms, and the slices.

``docs/own_model.md`` goes through it. Importing this module registers the model under its name, and
``--import`` makes the program do so::

    compressai --import examples/custom_channel_slice.py train -m my-slice-model -d images
    compressai --import examples/custom_channel_slice.py encode photo.png \\
        --checkpoint checkpoint_best.safetensors
"""

from __future__ import annotations

from typing import Any

from torch import nn

from compressai.layers import GDN
from compressai.models.channel_slice import ChannelSliceModel, build_slice_hyperprior, equal_slices
from compressai.models.utils import conv, deconv
from compressai.registry import register_model

__all__ = ["MySliceModel"]


@register_model(
    "my-slice-model",
    summary="GDN transforms with slices that see all earlier ones",
    small={"N": 8, "M": 16},
)
class MySliceModel(ChannelSliceModel):
    """GDN transforms with slices that see all earlier ones.

    Args:
        N: channels of the transforms and of ``z``.
        M: channels of the latent.
        num_slices: number of slices; must divide ``M``.
        kwargs: handed to :class:`~compressai.models.channel_slice.ChannelSliceModel`.
    """

    def __init__(self, N: int = 64, M: int = 96, num_slices: int = 4, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.g_a = nn.Sequential(
            conv(3, N), GDN(N), conv(N, N), GDN(N), conv(N, N), GDN(N), conv(N, M)
        )
        self.g_s = nn.Sequential(
            deconv(M, N), GDN(N, inverse=True), deconv(N, N), GDN(N, inverse=True),
            deconv(N, N), GDN(N, inverse=True), deconv(N, 3),
        )  # fmt: skip

        self.latent_codec = build_slice_hyperprior(
            z_channels=N,
            h_a=nn.Sequential(conv(M, N), nn.GELU(), conv(N, N)),
            h_mean_s=nn.Sequential(deconv(N, N), nn.GELU(), deconv(N, M)),
            h_scale_s=nn.Sequential(deconv(N, N), nn.GELU(), deconv(N, M)),
            groups=equal_slices(M, num_slices),
            side_channels=M,
            widths=(64, 32),
            emit_mean_support="pre",
        )
        self.add_auxiliary()
