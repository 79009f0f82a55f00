# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Models by Ballé, Minnen and colleagues: factorized prior, hyperpriors, joint autoregressive."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from compressai.entropy_models import EntropyBottleneck, GaussianConditional
from compressai.entropy_models._overrides import of_this_package, overridden
from compressai.entropy_models.session import active_coder, strings_at_once
from compressai.latent_codecs._positions import concatenate
from compressai.latent_codecs.rasterscan import scan_compress, scan_decompress
from compressai.layers import MaskedConv2d
from compressai.models._helpers.gdn import BALLE, MINNEN, GdnModel, register_sized
from compressai.models.base import (
    SCALES_LEVELS,
    SCALES_MAX,
    SCALES_MIN,
    CompressionModel,
    SimpleVAECompressionModel,
    Strings,
    check_latent_size,
    check_strings,
    get_scale_table,
)
from compressai.models.utils import conv, deconv
from compressai.registry import register_model

__all__ = [
    "SCALES_LEVELS",
    "SCALES_MAX",
    "SCALES_MIN",
    "CompressionModel",
    "FactorizedPrior",
    "FactorizedPriorReLU",
    "JointAutoregressiveHierarchicalPriors",
    "MeanScaleHyperprior",
    "ScaleHyperprior",
    "SimpleVAECompressionModel",
    "get_scale_table",
]


@register_model("bmshj2018-factorized")
class FactorizedPrior(GdnModel):
    """Factorized prior model.

    Args:
        N: channels of the transforms.
        M: channels of the latent.
        kwargs: handed to :class:`CompressionModel`.

    Shape: ``x`` ``(N, 3, H, W)`` in [0, 1]; latent ``(N, M, H / 16, W / 16)``. Sides that are no
    multiples of 16 give a reconstruction that is larger than ``x``, up to the next multiple.

    Source: Ballé et al. 2018, "Variational image compression with a scale hyperprior", section 3.
    """

    needs_synchrony = False

    def __init__(self, N: int, M: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.entropy_bottleneck = EntropyBottleneck(M)
        self.g_a = self._analysis(N, M)
        self.g_s = self._synthesis(N, M)
        self.N = N
        self.M = M

    @property
    def downsampling_factor(self) -> int:
        """Sides of an image should be multiples of this."""
        return 2**4

    def forward(self, x: Tensor) -> dict[str, Any]:
        """``{"x_hat", "likelihoods": {"y"}}``; ``x_hat`` is not clamped."""
        y = self.g_a(x)
        y_hat, y_likelihoods = self.entropy_bottleneck(y)
        return {"x_hat": self.g_s(y_hat), "likelihoods": {"y": y_likelihoods}}

    def _code_latent(self, y: Tensor) -> dict[str, Any]:
        strings, y_hat = self.entropy_bottleneck.compress_and_quantize(y)
        return {"strings": [strings], "shape": y.size()[-2:], "y_hat": y_hat}

    def _decode_latent(self, strings: Strings, shape: Any) -> dict[str, Tensor]:
        check_strings(strings, 1)
        return {"y_hat": self.entropy_bottleneck.decompress(strings[0], shape)}


@register_model("bmshj2018-factorized-relu")
class FactorizedPriorReLU(FactorizedPrior):
    """:class:`FactorizedPrior` with ReLU in place of GDN and inverse GDN.

    Args:
        N: channels of the transforms.
        M: channels of the latent.
        kwargs: handed to :class:`CompressionModel`.
    """

    def __init__(self, N: int, M: int, **kwargs: Any) -> None:
        super().__init__(N, M, **kwargs)

        def relu(_channels: int, inverse: bool = False) -> nn.Module:
            return nn.ReLU()

        self.g_a = self._analysis(N, M, relu)
        self.g_s = self._synthesis(N, M, relu)


@register_model("bmshj2018-hyperprior")
class ScaleHyperprior(GdnModel):
    """Scale hyperprior model: latents are zero-mean Gaussians with coded scales.

    Args:
        N: channels of the transforms and of the side information ``z``.
        M: channels of the latent ``y``.
        kwargs: handed to :class:`CompressionModel`.

    Shape: ``x`` ``(N, 3, H, W)`` in [0, 1]; ``y`` ``(N, M, H / 16, W / 16)``, ``z``
    ``(N, N, H / 64, W / 64)``. Sides must be multiples of 64.

    Source: Ballé et al. 2018, "Variational image compression with a scale hyperprior".
    """

    def __init__(self, N: int, M: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.entropy_bottleneck = EntropyBottleneck(N)
        self.g_a = self._analysis(N, M)
        self.g_s = self._synthesis(N, M)
        self.h_a = nn.Sequential(
            conv(M, N, stride=1, kernel_size=3), nn.ReLU(), conv(N, N), nn.ReLU(), conv(N, N)
        )
        self.h_s = nn.Sequential(
            deconv(N, N),
            nn.ReLU(),
            deconv(N, N),
            nn.ReLU(),
            conv(N, M, stride=1, kernel_size=3),
            nn.ReLU(),
        )
        self.gaussian_conditional = GaussianConditional(None)
        self.N = N
        self.M = M

    @property
    def downsampling_factor(self) -> int:
        """Sides of an image must be multiples of this."""
        return 2 ** (4 + 2)

    def _hyper_analysis(self, y: Tensor) -> Tensor:
        return self.h_a(y.abs())

    def _scales_means(self, z_hat: Tensor) -> tuple[Tensor, Tensor | None]:
        return self._split_parameters(self.h_s(z_hat))

    @staticmethod
    def _split_parameters(params: Tensor) -> tuple[Tensor, Tensor | None]:
        """Scales and means out of what the hyper synthesis gives."""
        return params, None

    def forward(self, x: Tensor) -> dict[str, Any]:
        """Reconstruction and likelihoods.

        Args:
            x: ``(N, 3, H, W)`` in [0, 1].

        Returns:
            ``{"x_hat", "likelihoods": {"y", "z"}}``; ``x_hat`` is not clamped.

        Raises:
            ValueError: the sides do not fit.
        """
        y = self._latent(x)
        z_hat, z_likelihoods = self.entropy_bottleneck(self._hyper_analysis(y))
        scales, means = self._scales_means(z_hat)
        y_hat, y_likelihoods = self.gaussian_conditional(y, scales, means=means)
        return {"x_hat": self.g_s(y_hat), "likelihoods": {"y": y_likelihoods, "z": z_likelihoods}}

    def _check_size(self, x: Tensor, y: Tensor) -> None:
        check_latent_size(x, y, 4)

    def _code_latent(
        self,
        y: Tensor,
        code_y: Callable[[Tensor, Tensor], tuple[list[bytes], Tensor]] | None = None,
        z_step: Callable[[], dict[str, Tensor]] = dict,
    ) -> dict[str, Any]:
        """As in the base class; something else may code ``y``, and ``z`` have other steps."""
        z = self._hyper_analysis(y)
        z_strings, z_hat = self.entropy_bottleneck.compress_and_quantize(z, **z_step())
        y_strings, y_hat = (code_y or self._code_y)(y, self.h_s(z_hat))
        return {"strings": [y_strings, z_strings], "shape": z.size()[-2:], "y_hat": y_hat}

    def _code_y(self, y: Tensor, params: Tensor) -> tuple[list[bytes], Tensor]:
        return self.gaussian_conditional.code(y, *self._split_parameters(params))

    def _decode_latent(
        self,
        strings: Strings,
        shape: Any,
        decode_y: Callable[[Sequence[bytes], Tensor], tuple[Tensor, Tensor]] | None = None,
        z_step: Callable[[], dict[str, Tensor]] = dict,
    ) -> dict[str, Tensor]:
        """Inverse of :meth:`_code_latent`."""
        check_strings(strings, 2)
        z_hat = self.entropy_bottleneck.decompress(strings[1], shape, **z_step())
        y_hat, y = (decode_y or self._decode_y)(strings[0], self.h_s(z_hat))
        return {"y_hat": y_hat, "y_fine": y}

    def _decode_y(self, strings: Sequence[bytes], params: Tensor) -> tuple[Tensor, Tensor]:
        """``y_hat``, and what the synthesis gets."""
        out = self.gaussian_conditional.decode(strings, *self._split_parameters(params))
        return out["y_hat"], out.get("y_fine", out["y_hat"])


@register_model("mbt2018-mean")
class MeanScaleHyperprior(ScaleHyperprior):
    """Scale hyperprior with means.

    Args:
        N: channels of the transforms and of ``z``.
        M: channels of the latent ``y``.
        kwargs: handed to :class:`CompressionModel`.

    Shape: as :class:`ScaleHyperprior`.

    Source: Minnen et al. 2018, "Joint autoregressive and hierarchical priors for learned image
    compression", without the autoregressive part.
    """

    def __init__(self, N: int, M: int, **kwargs: Any) -> None:
        super().__init__(N, M, **kwargs)
        self.h_a = nn.Sequential(
            conv(M, N, stride=1, kernel_size=3),
            nn.LeakyReLU(),
            conv(N, N),
            nn.LeakyReLU(),
            conv(N, N),
        )
        self.h_s = nn.Sequential(
            deconv(N, M),
            nn.LeakyReLU(),
            deconv(M, M * 3 // 2),
            nn.LeakyReLU(),
            conv(M * 3 // 2, M * 2, stride=1, kernel_size=3),
        )

    def _hyper_analysis(self, y: Tensor) -> Tensor:
        return self.h_a(y)

    @staticmethod
    def _split_parameters(params: Tensor) -> tuple[Tensor, Tensor | None]:
        scales, means = params.chunk(2, 1)
        return scales, means


@register_model("mbt2018")
@of_this_package
class JointAutoregressiveHierarchicalPriors(MeanScaleHyperprior):
    """Hyperprior joined with a spatially autoregressive context.

    In evaluation, :meth:`forward` takes context and reconstruction from plainly rounded values,
    the coder from values rounded around the means: their ``x_hat`` differ slightly.

    Args:
        N: channels of the transforms and of ``z``.
        M: channels of the latent ``y``.
        kwargs: handed to :class:`CompressionModel`.

    Shape: as :class:`ScaleHyperprior`.

    Source: Minnen et al. 2018, "Joint autoregressive and hierarchical priors for learned image
    compression".
    """

    def __init__(self, N: int = 192, M: int = 192, **kwargs: Any) -> None:
        super().__init__(N=N, M=M, **kwargs)
        self.entropy_parameters = nn.Sequential(
            nn.Conv2d(M * 12 // 3, M * 10 // 3, 1),
            nn.LeakyReLU(),
            nn.Conv2d(M * 10 // 3, M * 8 // 3, 1),
            nn.LeakyReLU(),
            nn.Conv2d(M * 8 // 3, M * 6 // 3, 1),
        )
        self.context_prediction = MaskedConv2d(
            M, 2 * M, kernel_size=5, padding=2, stride=1, mask_type="A"
        )

    def forward(self, x: Tensor) -> dict[str, Any]:
        """``{"x_hat", "likelihoods": {"y", "z"}}``; see :meth:`ScaleHyperprior.forward`."""
        y = self._latent(x)
        z_hat, z_likelihoods = self.entropy_bottleneck(self.h_a(y))
        params = self.h_s(z_hat)
        y_hat = self.gaussian_conditional.quantize(y, "noise" if self.training else "dequantize")
        merged = concatenate(params, self.context_prediction(y_hat))
        scales, means = self.entropy_parameters(merged).chunk(2, 1)
        _, y_likelihoods = self.gaussian_conditional(y, scales, means=means)
        return {"x_hat": self.g_s(y_hat), "likelihoods": {"y": y_likelihoods, "z": z_likelihoods}}

    def _code_y(self, y: Tensor, params: Tensor) -> tuple[list[bytes], Tensor]:
        if not overridden(self, ("_compress_ar",)):
            return scan_compress(self, y, params)
        size, pad = self._scan_size(params)
        strings, items = [], []
        with strings_at_once():
            for item, side in zip(y.split(1), params.split(1)):
                y_hat = F.pad(item, (pad, pad, pad, pad))
                strings.append(self._compress_ar(y_hat, side, **size))
                items.append(_inside(y_hat, pad))
        return strings, torch.cat(items)

    def _decode_y(self, strings: Sequence[bytes], params: Tensor) -> tuple[Tensor, Tensor]:
        if not overridden(self, ("_decompress_ar",)):
            return scan_decompress(self, strings, params)
        size, pad = self._scan_size(params)
        items = []
        for string, side in zip(strings, params.split(1)):
            shape = (1, self.M, size["height"] + 2 * pad, size["width"] + 2 * pad)
            y_hat = params.new_zeros(shape)
            self._decompress_ar(string, y_hat, side, **size)
            items.append(_inside(y_hat, pad))
        decoded = torch.cat(items)
        return decoded, decoded

    def _scan_size(self, params: Tensor) -> tuple[dict[str, int], int]:
        coder = active_coder()
        if coder is not None:
            raise ValueError(
                "synchronised coding cannot go by a subclass's _compress_ar or _decompress_ar: "
                "use sync_safe=False"
            )
        kernel_size = self.context_prediction.kernel_size[0]
        pad = kernel_size // 2
        height, width = params.shape[-2:]
        size = {"height": height, "width": width, "kernel_size": kernel_size, "padding": pad}
        return size, pad

    def _compress_ar(
        self, y_hat: Tensor, params: Tensor, height: int, width: int, kernel_size: int, padding: int
    ) -> bytes:
        """Code one item, position by position.

        :meth:`compress` calls it for each item where a subclass or an instance has its own; else
        it codes all items at once, to the same strings.

        Args:
            y_hat: the latent, float ``(1, M, height + 2 * padding, width + 2 * padding)``, padded
                with zeros; what the decoder will see is written into it.
            params: side information, float ``(1, 2 * M, height, width)``.
            height, width: size of the latent, positions.
            kernel_size: side of the kernel of ``context_prediction``.
            padding: ``kernel_size // 2``.

        Returns:
            The string.

        Raises:
            ValueError: there are no tables, or the latent, scales or means are not finite.
        """
        inside = _inside(y_hat, padding)
        (string,), values = scan_compress(self, inside, params)
        inside.copy_(values)
        return string

    def _decompress_ar(
        self,
        string: bytes,
        y_hat: Tensor,
        params: Tensor,
        height: int,
        width: int,
        kernel_size: int,
        padding: int,
    ) -> None:
        """Decode one item: inverse of :meth:`_compress_ar`, called under the same conditions.

        Args:
            string: what :meth:`_compress_ar` gave.
            y_hat: zeros, float ``(1, M, height + 2 * padding, width + 2 * padding)``; the decoded
                latent is written into it.
            params, height, width, kernel_size, padding: as there.

        Raises:
            ValueError: the string is damaged, or scales or means are not finite.
        """
        values, _ = scan_decompress(self, [string], params)
        _inside(y_hat, padding).copy_(values)


def _inside(padded: Tensor, padding: int) -> Tensor:
    height, width = padded.shape[-2:]
    return padded[..., padding : height - padding, padding : width - padding]


# -- rows --------------------------------------------------------------------------------------

register_sized(
    "bmshj2018-factorized",
    FactorizedPrior,
    "Factorized prior",
    BALLE,
    ((128, 192), (192, 320), 5),
    (
        "446d5c7f 87279a02 5c6f152b 1ed4405a 866ba797 9b02ea3a 6dfd6734 5232faa3",
        "9781d705 4a584386 5352f123 4f91b847 b3a88897 ee028763 8c265a29 8811bd14",
    ),
    prefix="bmshj2018-factorized-prior",
    multiple=16,
)
register_sized(
    "bmshj2018-factorized-relu",
    FactorizedPriorReLU,
    "Factorized prior with ReLU in place of GDN",
    BALLE,
    ((128, 192), (192, 320), 5),
    multiple=16,
)
register_sized(
    "bmshj2018-hyperprior",
    ScaleHyperprior,
    "Scale hyperprior",
    BALLE,
    ((128, 192), (192, 320), 5),
    (
        "7eb97409 93677231 6d87be32 de1b779c f8b614e1 1ab9c41e 3804dcbd a583f0cf",
        "5cf249be 1ff60d1f 92dd7878 4377354e c34afc8d 3a6d8229 8747d3bc cc15b5f3",
    ),
)
register_sized(
    "mbt2018-mean",
    MeanScaleHyperprior,
    "Mean-scale hyperprior",
    MINNEN,
    ((128, 192), (192, 320), 4),
    (
        "e522738d e54a039d 723404a8 6dba02a3 d504e8eb a19628ab d5d441d1 8089ae3e",
        "5bf9c0b6 e2a1bf3f 640ce819 12626c13 1be7f059 b83bf379 ddf9644c 0cc7b94f",
    ),
)
register_sized(
    "mbt2018",
    JointAutoregressiveHierarchicalPriors,
    "Hyperprior with autoregressive context",
    MINNEN,
    ((192, 192), (192, 320), 4),
    (
        "3f36cd77 43b70cdd 22901978 456e2af9 b4a046dd 7052e5ea 8ba2bf82 dd0097aa",
        "2878436b c41cb208 d0dd64e8 a120e037 9b30e3b7 f8b3626f 16e6ff50 0cb49d43",
    ),
)
