# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The small model with an entropy path of integers, which is the same on every machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from compressai.latent_codecs import LRPGaussianLatentCodec
from compressai.models.base import CompressionModel
from compressai.models.integer.form import EntropyNetwork, IntegerForm
from compressai.models.integer.layers import IntegerNetwork
from compressai.models.lite import Lite
from compressai.registry import ENTRIES, register_entry, register_model

__all__ = ["IntegerLite"]

# Values are multiples of 2 to the power of minus this.
_Z, _SIDE, _VALUES, _SCALES = 4, 10, 5, 12
# Greatest magnitude of z_hat before its gain.
_LARGEST_Z = 2**9 - 1
# Binary digits of gains around the side information: with these, products of _LARGEST_Z and
# multiples of 2^-_Z are exact.
_GAIN_DIGITS = 11
# Shares of the scale to see inputs at: finest units serve low rates, and the widest values, of the
# highest rate, are clamped, where they tell little of others.
_SHARES = (0, 0.2, 0.4, 0.65)
_BOTTLENECK = "latent_codec.hyper.entropy_bottleneck"


class _IntegerLRPCodec(LRPGaussianLatentCodec):
    """Residual prediction whose network has the hyperbolic tangent and the scale in its table."""

    def _correct(self, y_hat: Tensor, ctx_params: Tensor) -> Tensor:
        _, support = self._split(ctx_params)
        return y_hat + self.lrp_transform(torch.cat((support, y_hat), dim=1))


@register_model("lite-integer")
class IntegerLite(IntegerForm, Lite):
    """:class:`Lite` whose strings decode to the same latent on every machine.

    All networks that encoder and decoder both run are :class:`IntegerNetwork`, and the gains
    around the side information have 11 binary digits in the decoder, so that ``z_hat``, means,
    scales and ``y_hat`` are exact. A new model has zeros for integers; make one of a trained
    :class:`Lite` with :func:`compressai.models.integer.quantize_entropy_path`. See
    ``docs/synchrony.md``.

    Args:
        args, kwargs: as :class:`Lite`.

    Shape: as :class:`Lite`.

    Raises:
        ValueError: as :class:`Lite`. When weights are loaded: they are so large that sums might
            not be exact, or the medians of ``z`` are no multiples of 1/16.
    """

    needs_synchrony = False
    form_of = Lite

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        slices = self.latent_codec.y
        for k, leaf in enumerate(slices.latent_codec.values()):
            slices.latent_codec[f"y{k}"] = _IntegerLRPCodec(
                leaf.lrp_transform,
                mean_support_trail_channels=leaf.mean_support_trail_channels,
                quantizer=leaf.quantizer,
                dead_zone=leaf.dead_zone,
            )
        # So that products with gains of few digits are exact.
        self.latent_codec.hyper.limit = _LARGEST_Z
        self.z_gain_inv.digits = _GAIN_DIGITS
        for place in self.entropy_networks(self):
            place.replace(IntegerNetwork(place.module, table_at_end=place.corrects))

    @classmethod
    def rates(cls, net: nn.Module) -> list[dict[str, float]]:
        low, high = net.quality_range
        return [{"quality": low + share * (high - low)} for share in _SHARES]

    @classmethod
    def entropy_networks(cls, net: CompressionModel) -> Iterator[EntropyNetwork]:
        hyper = net.latent_codec.hyper.h_s
        slices = net.latent_codec.y

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
    def like(cls, net: CompressionModel) -> CompressionModel:
        made = cls(**net.infer_arguments(net.state_dict())).eval()
        own = made.state_dict()
        same = {
            key: value
            for key, value in net.state_dict().items()
            if key in own and own[key].dtype == value.dtype
        }
        key = f"{_BOTTLENECK}.quantiles"
        quantiles = same[key] = same[key].clone()
        quantiles[:, 0, 1] = _round_medians(quantiles[:, 0, 1])
        made.load_state_dict(same, strict=False)
        made.get_submodule(_BOTTLENECK).update(force=True)
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
        medians = self.get_submodule(_BOTTLENECK).quantiles[:, 0, 1].detach()
        if not torch.equal(medians, _round_medians(medians)):
            raise ValueError(f"medians of z must be multiples of 1/{2**_Z}, got {medians.tolist()}")
        return result


def _round_medians(medians: Tensor) -> Tensor:
    """Medians of ``z`` as :class:`IntegerLite` may have them."""
    return (medians * 2**_Z).round() / 2**_Z


# -- row ---------------------------------------------------------------------------------------

register_entry(
    replace(
        ENTRIES["lite"],
        name="lite-integer",
        model=IntegerLite,
        summary="lite with an entropy path of integers, whose files decode to the same latent "
        "everywhere",
        paper="Ballé et al. 2019, Integer networks for data compression with latent-variable "
        "models",
        completes="lite",
        advice="train a lite and make integers of it with "
        "compressai.models.integer.quantize_entropy_path",
    )
)
