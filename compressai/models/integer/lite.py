# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The small models with an entropy path of integers, which is the same on every machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from compressai.latent_codecs import GainHyperLatentCodec, LRPGaussianLatentCodec
from compressai.models.base import CompressionModel
from compressai.models.integer.form import EntropyNetwork, IntegerForm
from compressai.models.integer.layers import INPUT_LIMIT, IntegerNetwork
from compressai.models.lite import Lite
from compressai.models.lite_vbr import LiteVbr
from compressai.registry import ENTRIES, ModelEntry, register_entry, register_model

__all__ = ["IntegerLite", "IntegerLiteVbr"]

# Values are multiples of 2 to the power of minus this.
_Z, _SIDE, _VALUES, _SCALES = 4, 10, 6, 12
# Binary digits of gains around the side information: with these, products of INPUT_LIMIT and
# multiples of 2^-_Z are exact.
_GAIN_DIGITS = 11
# Shares of the scale to see inputs at: finest units serve low rates, and the widest values, of the
# highest rate, are clamped, where they tell little of others.
_SHARES = (0, 0.2, 0.4, 0.65)


class _IntegerLRPCodec(LRPGaussianLatentCodec):
    """Residual prediction whose network has the hyperbolic tangent and the scale in its table."""

    def _correct(self, y_hat: Tensor, ctx_params: Tensor) -> Tensor:
        _, support = self._split(ctx_params)
        return y_hat + self.lrp_transform(torch.cat((support, y_hat), dim=1))


class _IntegerSlices(IntegerForm):
    """What the small models of integers have in common.

    Attributes:
        hyper: name of the codec that has the hyper synthesis; empty for the latent codec itself.
        bottleneck: name of the entropy model of ``z``.
    """

    needs_synchrony = False
    hyper: ClassVar[str]
    bottleneck: ClassVar[str]

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

    @classmethod
    def entropy_networks(cls, net: CompressionModel) -> Iterator[EntropyNetwork]:
        hyper = net.latent_codec.get_submodule(cls.hyper).h_s
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
        made = cls(**{**net.infer_arguments(net.state_dict()), "use_cca": False}).eval()
        own = made.state_dict()
        same = {
            key: value
            for key, value in net.state_dict().items()
            if key in own and own[key].dtype == value.dtype
        }
        key = f"{cls.bottleneck}.quantiles"
        quantiles = same[key] = same[key].clone()
        quantiles[:, 0, 1] = _round_medians(quantiles[:, 0, 1])
        made.load_state_dict(same, strict=False)
        made.get_submodule(cls.bottleneck).update(force=True)
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
        medians = self.get_submodule(self.bottleneck).quantiles[:, 0, 1].detach()
        if not torch.equal(medians, _round_medians(medians)):
            raise ValueError(f"medians of z must be multiples of 1/{2**_Z}, got {medians.tolist()}")
        return result


@register_model("lite-integer")
class IntegerLite(_IntegerSlices, Lite):
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
    hyper = ""
    bottleneck = "latent_codec.z.entropy_bottleneck"


class _IntegerGains(GainHyperLatentCodec):
    """Clamps ``z_hat``, so that its products with gains of few digits are exact."""

    def synthesis(self, z_hat: Tensor, gain_inv: Tensor) -> Tensor:
        return super().synthesis(z_hat.clamp(-INPUT_LIMIT, INPUT_LIMIT), gain_inv)


@register_model("lite-vbr-integer")
class IntegerLiteVbr(_IntegerSlices, LiteVbr):
    """:class:`LiteVbr` whose strings decode to the same latent on every machine.

    As :class:`IntegerLite`. The gains around the side information have 11 binary digits in the
    decoder, so that what goes into the networks of integers is exact, too.

    Args:
        args, kwargs: as :class:`LiteVbr`.

    Shape: as :class:`LiteVbr`.

    Raises:
        ValueError: as :class:`LiteVbr`. When weights are loaded: as :class:`IntegerLite`.
    """

    form_of = LiteVbr
    hyper = "hyper"
    bottleneck = "latent_codec.hyper.entropy_bottleneck"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        hyper = self.latent_codec.hyper
        self.latent_codec.hyper = _IntegerGains(
            hyper.entropy_bottleneck, hyper.h_a, hyper.h_s, hyper.quantizer
        )
        self.z_gain_inv.digits = _GAIN_DIGITS

    @classmethod
    def rates(cls, net: nn.Module) -> list[dict[str, float]]:
        low, high = net.quality_range
        return [{"quality": low + share * (high - low)} for share in _SHARES]


def _round_medians(medians: Tensor) -> Tensor:
    """Medians of ``z`` as :class:`IntegerLite` may have them."""
    return (medians * 2**_Z).round() / 2**_Z


# -- rows --------------------------------------------------------------------------------------

_SUMMARY = "{} with an entropy path of integers, whose files decode to the same latent everywhere"
_PAPER = "Ballé et al. 2019, Integer networks for data compression with latent-variable models"
_ADVICE = "train a {} and make integers of it with compressai.models.integer.quantize_entropy_path"


def _row(name: str, model: type[IntegerForm], of: str) -> ModelEntry:
    return replace(
        ENTRIES[of],
        name=name,
        model=model,
        summary=_SUMMARY.format(of),
        paper=_PAPER,
        completes=of,
        advice=_ADVICE.format(of),
    )


register_entry(_row(name="lite-integer", model=IntegerLite, of="lite"))
register_entry(_row(name="lite-vbr-integer", model=IntegerLiteVbr, of="lite-vbr"))
