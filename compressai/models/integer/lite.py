# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The small model with an entropy path of integers, which is the same on every machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from compressai.entropy_models.synchrony import DEFAULT_TOLERANCE
from compressai.latent_codecs import LRPGaussianLatentCodec
from compressai.models.base import CompressionModel, coding
from compressai.models.integer.form import EntropyNetwork, IntegerForm
from compressai.models.integer.layers import IntegerNetwork
from compressai.models.lite import Lite
from compressai.registry import ENTRIES, register_entry, register_model

__all__ = ["IntegerLite"]

# Values are multiples of 2 to the power of minus this.
_Z, _SIDE, _VALUES, _SCALES = 4, 10, 6, 12
_QUANTILES = "latent_codec.z.entropy_bottleneck.quantiles"


class _IntegerLRPCodec(LRPGaussianLatentCodec):
    """Residual prediction whose network has the hyperbolic tangent and the scale in its table."""

    def _correct(self, y_hat: Tensor, ctx_params: Tensor) -> Tensor:
        _, support = self._split(ctx_params)
        return y_hat + self.lrp_transform(torch.cat((support, y_hat), dim=1))


@register_model("lite-integer")
class IntegerLite(IntegerForm, Lite):
    """:class:`Lite` whose strings decode to the same latent on every machine.

    All networks that encoder and decoder both run are :class:`IntegerNetwork`, so that
    ``z_hat``, means, scales and ``y_hat`` are exact. A new model has zeros for integers; make one
    of a trained :class:`Lite` with :func:`compressai.models.integer.quantize_entropy_path`. See
    ``docs/synchrony.md``.

    Args:
        args, kwargs: as :class:`Lite`, without ``use_cca``.

    Shape: as :class:`Lite`.

    Raises:
        ValueError: as :class:`Lite`, or ``use_cca``. When weights are loaded: they are so large
            that sums might not be exact, or the medians of ``z`` are no multiples of 1/16.
    """

    form_of = Lite

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.use_cca:
            raise ValueError("use_cca must be False, as a model of integers cannot be trained")
        slices = self.latent_codec.y
        for k, leaf in enumerate(slices.latent_codec.values()):
            slices.latent_codec[f"y{k}"] = _IntegerLRPCodec(
                leaf.lrp_transform,
                mean_support_trail_channels=leaf.mean_support_trail_channels,
                quantizer=leaf.quantizer,
            )
        for place in self.entropy_networks(self):
            place.replace(IntegerNetwork(place.module, table_at_end=place.corrects))

    @staticmethod
    def entropy_networks(net: CompressionModel) -> Iterator[EntropyNetwork]:
        hyper, slices = net.latent_codec.h_s, net.latent_codec.y

        def exponents(values: int) -> tuple[int, ...]:
            return (_SIDE,) * net.N + (_VALUES,) * values

        z = (_Z,) * net.N
        yield EntropyNetwork(hyper, "h_mean_s", z, _SIDE)
        yield EntropyNetwork(hyper, "h_scale_s", z, _SIDE)
        for k, (earlier, width) in enumerate(zip(slices.groups_acc, slices.groups)):
            head, leaf = slices.channel_context[f"y{k}"], slices.latent_codec[f"y{k}"]
            yield EntropyNetwork(head, "mean_cc", exponents(earlier), _VALUES)
            yield EntropyNetwork(head, "scale_cc", exponents(earlier), _SCALES)
            yield EntropyNetwork(leaf, "lrp_transform", exponents(earlier + width), _VALUES, True)

    @classmethod
    def like(cls, net: CompressionModel) -> IntegerLite:
        made = cls(**{**net.infer_arguments(net.state_dict()), "use_cca": False}).eval()
        own = made.state_dict()
        same = {
            key: value
            for key, value in net.state_dict().items()
            if key in own and own[key].dtype == value.dtype
        }
        quantiles = same[_QUANTILES] = same[_QUANTILES].clone()
        quantiles[:, 0, 1] = _round_medians(quantiles[:, 0, 1])
        made.load_state_dict(same, strict=False)
        made.latent_codec.z.entropy_bottleneck.update(force=True)
        made.update()
        return made

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """As :meth:`ChannelSliceModel.load_state_dict`, for integers.

        Raises:
            ValueError: these would not be exact; the message names the layer.
        """
        result = super().load_state_dict(state_dict, strict, assign)
        medians = self.latent_codec.z.entropy_bottleneck.quantiles[:, 0, 1].detach()
        if not torch.equal(medians, _round_medians(medians)):
            raise ValueError(f"medians of z must be multiples of 1/{2**_Z}, got {medians.tolist()}")
        return result

    @coding
    def compress(
        self,
        x: Tensor,
        *,
        sync_safe: bool = True,
        tolerance: float = DEFAULT_TOLERANCE,
        verify: bool = False,
    ) -> dict[str, Any]:
        """Code a batch of images.

        Args:
            x: ``(N, 3, H, W)`` in [0, 1].
            sync_safe, tolerance: taken from callers that code with any model, without effect:
                there is nothing that other machines compute otherwise.
            verify: as in :meth:`SimpleVAECompressionModel.compress`.

        Returns:
            As :meth:`ChannelSliceModel.compress`.

        Raises:
            ValueError: height or width do not fit the transforms, or ``x`` is not finite.
        """
        return super().compress(x)

    @coding
    def decompress(
        self,
        strings: Any,
        shape: Any,
        *,
        sync_safe: bool = True,
        latent_hash: Sequence[bytes] | None = None,
    ) -> dict[str, Tensor]:
        """Decode a batch of images.

        Args:
            strings, shape: what :meth:`compress` gave.
            sync_safe: without effect, as there.
            latent_hash: as in :meth:`SimpleVAECompressionModel.decompress`.

        Returns:
            ``{"x_hat": (N, 3, H, W) in [0, 1], "y_hat"}``, the latter to the bit that of
            :meth:`compress`.

        Raises:
            ValueError: strings and shape do not fit, or a string is damaged.
        """
        return super().decompress(strings, shape)


def _round_medians(medians: Tensor) -> Tensor:
    """Medians of ``z`` as :class:`IntegerLite` may have them."""
    return (medians * 2**_Z).round() / 2**_Z


# -- rows --------------------------------------------------------------------------------------

_LITE = ENTRIES["lite"]

register_entry(
    replace(
        _LITE,
        name="lite-integer",
        model=IntegerLite,
        summary="lite with an entropy path of integers, whose files decode to the same latent on "
        "every machine",
        paper="Ballé et al. 2019, Integer networks for data compression with latent-variable "
        "models",
        completes="lite",
        advice="train a lite and make integers of it with "
        "compressai.models.integer.quantize_entropy_path",
    )
)
