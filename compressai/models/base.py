# SPDX-License-Identifier: BSD-3-Clause-Clear
"""What all image models share: tables, loading, and coding a latent in synchrony."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn as nn
from torch import Tensor

from compressai.entropy_models import EntropyBottleneck, EntropyModel, GaussianConditional
from compressai.entropy_models._loading import loading
from compressai.entropy_models._refusals import named
from compressai.entropy_models.session import coding_session
from compressai.entropy_models.synchrony import (
    DEFAULT_TOLERANCE,
    Gain,
    SyncEncoder,
    SyncProbe,
    on_networks,
)
from compressai.latent_codecs import LatentCodec
from compressai.models._coding import coding
from compressai.models._pretrained import PretrainedModel
from compressai.models._scales import SCALES_LEVELS, SCALES_MAX, SCALES_MIN, get_scale_table
from compressai.models._sides import (
    Strings,
    check_latent_size,
    check_strings,
    hyper_factor,
    resampling_factor,
)
from compressai.models._state_dict import clean_state_dict
from compressai.models.utils import remap_old_keys, update_registered_buffers

__all__ = [
    "SCALES_LEVELS",
    "SCALES_MAX",
    "SCALES_MIN",
    "CompressionModel",
    "ModelIdentity",
    "SimpleVAECompressionModel",
    "TransformCodingModel",
    "Strings",
    "check_latent_size",
    "check_strings",
    "coding",
    "coding_networks",
    "get_scale_table",
    "remap_old_keys",
    "resampling_factor",
    "update_registered_buffers",
]

# Of the run in which the encoder finds out how networks amplify deviations, once per model: 16 x 16
# positions of the latent, twice, are enough for a look at each channel.
_PROBE_SIDE = 256
_NOISY_RUNS = 2

# How much smaller a latent is where no module tells.
_LATENT_FACTOR = 16


def coding_networks(module: nn.Module) -> list[nn.Module]:
    """The networks of an entropy path: the outermost modules that code nothing themselves.

    Args:
        module: a model or codec; what it contains that can ``compress`` and ``decompress`` is
            looked into, as are lists and dictionaries of modules. The transforms ``g_a`` and
            ``g_s`` are left out.
    """
    found: dict[nn.Module, None] = {}
    for name, child in module.named_children():
        if name in ("g_a", "g_s"):
            continue
        if isinstance(child, (nn.ModuleDict, nn.ModuleList)) or (
            hasattr(child, "compress") and hasattr(child, "decompress")
        ):
            if not isinstance(child, EntropyModel):
                found.update(dict.fromkeys(coding_networks(child)))
        elif not isinstance(child, nn.Identity):
            found[child] = None
    return list(found)


@dataclass(frozen=True)
class ModelIdentity:
    """What a file says about the weights that it was coded with; of nets that somebody named.

    Attributes:
        model: name in the zoo, or as in a checkpoint.
        quality: whose weights of the zoo, or rate of a model of variable rate; ``None`` for others.
        metric: distortion that they were trained for, if that is known.
        random_weights: whether they are those random ones that every decoder can make again.
        weights: first digits of the SHA-256 of their file, or nothing.
    """

    model: str
    quality: float | None = None
    metric: str | None = None
    random_weights: bool = False
    weights: str = ""


class CompressionModel(PretrainedModel, nn.Module):
    """Base class of the models: keeps track of entropy models, whatever their depth.

    Args:
        entropy_bottleneck_channels: deprecated; builds an ``entropy_bottleneck`` of that width.
        init_weights: deprecated, without effect.

    Attributes:
        identity: who the net is, as the zoo and :func:`compressai.load` note it, for files to tell;
            other weights take it back to the name.
    """

    # What only the encoder, or only training, uses: parts of names in the state dict. Weights that
    # differ there decode the same files. Those of the models here are a part of the file format.
    not_decoding: frozenset[str] = frozenset({"g_a", "h_a", "aux_entropy_model"})
    # A class attribute: models of other people need not call our constructor first.
    identity: ModelIdentity | None = None
    # Weight of the distortion in training, if known.
    lmbda: Any = None
    # Whether the decoder computes anything that other machines might compute otherwise; without,
    # all strings are the same, in synchrony or not.
    needs_synchrony: bool = True

    def __init__(
        self, entropy_bottleneck_channels: int | None = None, init_weights: bool | None = None
    ) -> None:
        super().__init__()
        self._sync_gains: tuple[list[Tensor], Any, list[Gain]] | None = None
        if entropy_bottleneck_channels is not None:
            warnings.warn(
                "entropy_bottleneck_channels is deprecated: set self.entropy_bottleneck",
                DeprecationWarning,
                stacklevel=2,
            )
            self.entropy_bottleneck = EntropyBottleneck(entropy_bottleneck_channels)
        if init_weights is not None:
            warnings.warn(
                "init_weights is deprecated and has no effect", DeprecationWarning, stacklevel=2
            )

    if TYPE_CHECKING:
        # What a subclass defines, each with arguments of its own. Without these, type checkers take
        # such names for what a module of torch may have: tensors and modules.
        g_a: nn.Module
        g_s: nn.Module

        def __call__(self, *args: Any, **kwargs: Any) -> dict[str, Any]: ...

        def forward(self, *args: Any, **kwargs: Any) -> dict[str, Any]: ...

        def compress(self, *args: Any, **kwargs: Any) -> Any: ...

        def decompress(self, *args: Any, **kwargs: Any) -> Any: ...

    @property
    def image_channels(self) -> int:
        """Channels of the images that the model takes."""
        return 3

    @property
    def has_tables(self) -> bool:
        """Whether all entropy models have the tables that coding needs."""
        return all(m.has_tables for m in self.modules() if isinstance(m, EntropyModel))

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load weights, whatever shape they come in.

        Understood are whole training checkpoints, names with ``module.`` from wrappers or with any
        other prefix that all have in common, averages of :mod:`torch.optim.swa_utils`, parameter
        names of other releases, and entropy models with tables of any size or without tables
        (which are then built again by :meth:`update` or the first ``compress``).

        Args:
            state_dict: weights or checkpoint; not modified.
            strict: as in :meth:`torch.nn.Module.load_state_dict`. If false, all stays that
                ``state_dict`` does not have, tables included: build them again with
                ``update(force=True)`` where the densities have changed.
            assign: as there.

        Returns:
            The missing and unexpected keys, as there.
        """
        if self.identity is not None:
            self.identity = ModelIdentity(self.identity.model)
        cleaned = clean_state_dict(state_dict, known=self.state_dict().keys())
        with loading(strict):
            return super().load_state_dict(cleaned, strict, assign)

    def update(
        self,
        scale_table: Sequence[float] | Tensor | None = None,
        force: bool = False,
        update_quantiles: bool = False,
        solve_quantiles: bool = False,
    ) -> bool:
        """Build the tables of all entropy models.

        Args:
            scale_table: scales of the Gaussian conditionals; ``None`` takes
                :func:`get_scale_table`.
            force: build tables that exist, too.
            update_quantiles: solve for the quantiles of the bottlenecks by bisection first, which
                makes models usable that were trained without the auxiliary loss.
            solve_quantiles: the same under a clearer name.

        Returns:
            Whether any table was built.
        """
        scale_table = get_scale_table() if scale_table is None else scale_table
        solve = update_quantiles or solve_quantiles
        updated = False
        with named(self):
            for module in self.modules():
                if isinstance(module, EntropyBottleneck):
                    updated |= module.update(force=force, update_quantiles=solve)
                if isinstance(module, GaussianConditional):
                    updated |= module.update_scale_table(scale_table, force=force)
        return updated

    def code_latent(
        self,
        code: Callable[[Tensor], dict[str, Any]],
        y: Tensor,
        sync_safe: bool,
        tolerance: float,
        setting: tuple[Any, ...] = (),
    ) -> dict[str, Any]:
        """Code a latent, in synchrony or not; for use in ``compress``.

        Args:
            code: codes a latent with the present weights.
            y: the latent.
            sync_safe: in synchrony.
            tolerance: see :class:`~compressai.entropy_models.synchrony.SyncEncoder`.
            setting: whatever else ``code`` depends on, such as a rate.

        Returns:
            What ``code`` gives.

        Raises:
            ValueError: ``tolerance`` is negative or not finite.
        """
        if not (sync_safe and self.needs_synchrony):
            return code(y)
        with coding_session(self._sync_encoder(tolerance, code, setting)):
            return code(y)

    def _sync_encoder(
        self, tolerance: float, code: Callable[[Tensor], Any], setting: tuple[Any, ...]
    ) -> SyncEncoder:
        # Without names and the search for doubles: this is done for every image.
        weights = [
            weight
            for module in self.modules()
            for weight in (*module._parameters.values(), *module._buffers.values())
            if weight is not None
        ]
        known = not any(weight.is_inference() for weight in weights)
        state = (setting, [weight._version for weight in weights] if known else None)
        cached = self._sync_gains
        if not (
            known
            and cached is not None
            and cached[1] == state
            and len(cached[0]) == len(weights)
            and all(a is b for a, b in zip(cached[0], weights))
        ):
            y, probe = self.g_a(self._sync_image()), SyncProbe()
            with on_networks(coding_networks(self), probe.network), coding_session(probe):
                for _ in range(_NOISY_RUNS):
                    code(y)
                    probe.again()
                code(y)
            cached = self._sync_gains = (weights, state, probe.gains())
        return SyncEncoder(cached[2], tolerance)

    def _sync_image(self) -> Tensor:
        """An image with detail of all sizes, the same for all models."""
        parameter = next(self.parameters())
        multiple = int(getattr(self, "downsampling_factor", 64))
        side = -(-_PROBE_SIDE // multiple) * multiple
        random = np.random.Generator(np.random.PCG64(0))
        image = np.full((3, side, side), 0.5)
        for size in (1, 4, 16, 64):
            cells = random.random((3, side // size + 1, side // size + 1)) - 0.5
            detail = cells.repeat(size, 1).repeat(size, 2)[:, :side, :side]
            image += detail * (0.1 + 0.3 * (size == 16))
        return torch.from_numpy(image)[None].to(parameter)

    def rate_gains(self) -> Mapping[str, nn.Module]:
        """What depends on the rate, if gains are all that does.

        Returns:
            :class:`~compressai.models.lite.RateGains` by the arguments of ``latent_codec`` that
            they make; empty for a model of one rate, or of which something else depends on it.
        """
        return {}

    def lagrangian_multiplier(self, **arguments: Any) -> float | None:
        """The weight of the distortion by which strings of this model are to be judged.

        Args:
            arguments: of :meth:`compress`, on which it depends where the rate is variable.

        Returns:
            What the model was trained with, of :class:`~compressai.losses.RateDistortionLoss`;
            ``None`` where that is not known. The attribute ``lmbda`` holds it: models of the zoo
            and checkpoints set it.
        """
        return self.lmbda

    def quantizer_steps(self, **arguments: Any) -> tuple[float | Tensor, float | Tensor]:
        """What lies between two symbols, in units of the latent and of the hyperlatent.

        Args:
            arguments: of :meth:`compress`, on which it depends where the rate is variable.

        Returns:
            A number for each, or what broadcasts to ``(N, C, h, w)``; 1 where nothing is scaled.
        """
        return 1.0, 1.0

    def aux_loss(self) -> Any:
        """Sum of the auxiliary losses of the bottlenecks; 0 if there are none."""
        return sum(m.loss() for m in self.modules() if isinstance(m, EntropyBottleneck))


class TransformCodingModel(CompressionModel):
    """An analysis transform, a synthesis transform, and something between that codes the latent.

    A subclass sets ``g_a`` and ``g_s``, and overrides :meth:`_code_latent` and
    :meth:`_decode_latent`.
    """

    # Whether sides must be multiples of ``downsampling_factor`` before they see the analysis.
    whole_units: bool = False

    if TYPE_CHECKING:

        @property
        def downsampling_factor(self) -> int: ...

    @coding
    def compress(
        self,
        x: Tensor,
        *,
        sync_safe: bool = False,
        tolerance: float = DEFAULT_TOLERANCE,
        verify: bool = False,
    ) -> dict[str, Any]:
        """Code a batch of images.

        Args:
            x: ``(N, 3, H, W)`` in [0, 1].
            sync_safe: make strings that decode to the same ``"y_hat"`` on every machine, see
                ``docs/synchrony.md``. Decode them with ``sync_safe``, too.
            tolerance: how far the arithmetic of such machines may be apart.
            verify: also give ``"latent_hash"``, one hash of ``"y_hat"`` an item.

        Returns:
            ``{"strings", "shape", "y_hat"}``: what codes the latent, such as a latent codec, says
            how many lists of strings there are, each with one string an image.

        Raises:
            ValueError: height or width do not fit the transforms, ``x`` is not finite, or
                ``tolerance`` is negative.
        """
        return self._compress(x, self._code_latent, sync_safe, tolerance)

    @coding
    def decompress(
        self,
        strings: Sequence[Sequence[bytes]],
        shape: Any,
        *,
        sync_safe: bool = False,
        latent_hash: Sequence[bytes] | None = None,
    ) -> dict[str, Tensor]:
        """Decode a batch of images.

        Args:
            strings, shape: what :meth:`compress` gave.
            sync_safe: what :meth:`compress` got.
            latent_hash: what :meth:`compress` gave with ``verify``, to compare with; ``None``
                compares nothing.

        Returns:
            ``{"x_hat": (N, 3, H, W) in [0, 1], "y_hat"}``.

        Raises:
            AssertionError: ``strings`` is no list of as many lists as there must be.
            ValueError: strings and shape do not fit, a string is damaged, or the latent is not that
                of ``latent_hash``.
        """
        return self._decompress(self._decode_latent(strings, shape))

    def _compress(
        self,
        x: Tensor,
        code: Callable[[Tensor], dict[str, Any]],
        sync_safe: bool,
        tolerance: float,
        setting: tuple[Any, ...] = (),
    ) -> dict[str, Any]:
        """What :meth:`compress` gives; the last four as in :meth:`code_latent`."""
        return self.code_latent(code, self._latent(x), sync_safe, tolerance, setting)

    def _decompress(self, decoded: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What :meth:`decompress` gives, of what :meth:`_decode_latent` gave."""
        y = decoded.get("y_fine", decoded["y_hat"])
        return {"x_hat": self.g_s(y).clamp_(0, 1), "y_hat": decoded["y_hat"]}

    def _latent(self, x: Tensor) -> Tensor:
        """The latent of images of a size that fits; ValueError for others."""
        if self.whole_units:
            check_latent_size(x, x, self.downsampling_factor, factor=1)
        y = self.g_a(x)
        self._check_size(x, y)
        return y

    def _check_size(self, x: Tensor, y: Tensor) -> None:
        """Raise ValueError if the latent's size does not suit what codes it."""

    def _code_latent(self, y: Tensor) -> dict[str, Any]:
        """``{"strings", "shape", "y_hat"}``."""
        raise NotImplementedError

    def _decode_latent(self, strings: Strings, shape: Any) -> dict[str, Tensor]:
        """``{"y_hat"}``, and ``"y_fine"`` if the synthesis gets something else."""
        raise NotImplementedError


class SimpleVAECompressionModel(TransformCodingModel):
    """An analysis transform, a synthesis transform, and a latent codec that does all the rest.

    A subclass sets ``g_a``, ``g_s`` and ``latent_codec``.
    """

    g_a: nn.Module
    g_s: nn.Module
    latent_codec: LatentCodec

    def __getitem__(self, key: str) -> nn.Module:
        return self.latent_codec[key]

    def forward(self, x: Tensor) -> dict[str, Any]:
        """Reconstruction and likelihoods.

        Args:
            x: image ``(N, 3, H, W)`` in [0, 1].

        Returns:
            ``{"x_hat": (N, 3, H, W), not clamped, "likelihoods": {name: tensor}}``.

        Raises:
            ValueError: height or width do not fit the transforms.
        """
        out = self.latent_codec(self._latent(x))
        return {"x_hat": self.g_s(out["y_hat"]), "likelihoods": out["likelihoods"]}

    def _code_latent(self, y: Tensor) -> dict[str, Any]:
        return self.latent_codec.compress(y)

    def _decode_latent(self, strings: Strings, shape: Any) -> dict[str, Tensor]:
        return self.latent_codec.decompress(strings, shape)

    @property
    def downsampling_factor(self) -> int:
        """Sides of an image must be multiples of this: what ``g_a`` and ``h_a`` divide them by.

        It is read off the strides of their layers, see :func:`resampling_factor`. A model whose
        layers run in another order overrides it.
        """
        return math.prod(self._factors)

    @property
    def _factors(self) -> tuple[int, int]:
        """Pixels for each position of the latent, and of these for each of ``z``, along a side."""
        # Past what preparing for speed puts in front of the modules.
        analysis = self._modules.get("g_a")
        return (
            _LATENT_FACTOR if analysis is None else resampling_factor(analysis),
            hyper_factor(self._modules.get("latent_codec")),
        )

    def _check_size(self, x: Tensor, y: Tensor) -> None:
        factor, multiple = self._factors
        check_latent_size(x, y, multiple, factor)
