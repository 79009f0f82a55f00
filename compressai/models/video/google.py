# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Scale-space flow: motion compensation that can blur where motion fails, by Agustsson et al."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from compressai.entropy_models.synchrony import DEFAULT_TOLERANCE
from compressai.models._state_dict import clean_state_dict, entry_size
from compressai.models.base import (
    CompressionModel,
    Strings,
    check_latent_size,
    coding,
)
from compressai.models.utils import gaussian_blur, gaussian_kernel2d, meshgrid2d
from compressai.models.video.hyperprior import Hyperprior, decoder, encoder
from compressai.registry import ModelEntry, at_qualities, numbered, register_entry, register_model

__all__ = ["ScaleSpaceFlow"]


@register_model("ssf2020")
class ScaleSpaceFlow(CompressionModel):
    """Video model: a key frame, then for each frame motion with a scale field, and a residual.

    The frame before is warped in space and in scale: besides the displacement, the motion holds
    for each pixel how blurred a version of the reference it is predicted from.

    Args:
        num_levels: number of blurred versions of the reference.
        sigma0: standard deviation of the blur between them, in pixels of the level.
        scale_field_shift: kept for callers of CompressAI, which has it without using it either.
        N: channels within the transforms.
        M: channels of the latents and of their side information.

    Shape: frames ``(N, 3, H, W)`` in [0, 1], ``H`` and ``W`` multiples of 128; latents
    ``(N, M, H / 16, W / 16)``, side information ``(N, M, H / 128, W / 128)``.

    Raises:
        ValueError: ``num_levels``, ``N`` or ``M`` is below 1 or ``sigma0`` is not positive.

    Source: Agustsson et al. 2020, "Scale-space flow for end-to-end optimized video compression".
    """

    def __init__(
        self,
        num_levels: int = 5,
        sigma0: float = 1.5,
        scale_field_shift: float = 1.0,
        *,
        N: int = 128,
        M: int = 192,
    ) -> None:
        super().__init__()
        if num_levels < 1:
            raise ValueError(f"num_levels must be at least 1, got {num_levels}")
        if not sigma0 > 0:
            raise ValueError(f"sigma0 must be positive, got {sigma0}")
        if N < 1 or M < 1:
            raise ValueError(f"N and M must be at least 1, got {N} and {M}")
        self.img_encoder = encoder(3, N, M)
        self.img_decoder = decoder(M, N)
        self.img_hyperprior = Hyperprior(M)
        self.res_encoder = encoder(3, N, M)
        self.res_decoder = decoder(2 * M, N)
        self.res_hyperprior = Hyperprior(M)
        self.motion_encoder = encoder(2 * 3, N, M)
        self.motion_decoder = decoder(M, N)
        self.motion_hyperprior = Hyperprior(M)
        self.num_levels = int(num_levels)
        self.sigma0 = float(sigma0)
        self.scale_field_shift = scale_field_shift

    @property
    def downsampling_factor(self) -> int:
        """Sides of a frame must be multiples of this."""
        return 2**7

    # -- training and evaluation -----------------------------------------------------------------

    def forward(self, frames: Sequence[Tensor]) -> dict[str, list[Any]]:
        """Reconstructions and likelihoods of a group of frames, the first one a key frame.

        No gradient goes from the second frame back into the key frame.

        Args:
            frames: list or tuple of ``(N, 3, H, W)``.

        Returns:
            ``{"x_hat": list of (N, 3, H, W), not clamped, "likelihoods": list}``; entries of the
            latter are ``{"keyframe": {"y", "z"}}``, then ``{"motion": ..., "residual": ...}``.

        Raises:
            TypeError: ``frames`` is no list or tuple.
            ValueError: it is empty, frames differ in shape, or the sides do not fit.
        """
        _check_frames(frames)
        x_hat, likelihoods = self.forward_keyframe(frames[0])
        reconstructions, all_likelihoods = [x_hat], [likelihoods]
        x_ref = x_hat.detach()
        for frame in frames[1:]:
            x_ref, likelihoods = self.forward_inter(frame, x_ref)
            reconstructions.append(x_ref)
            all_likelihoods.append(likelihoods)
        return {"x_hat": reconstructions, "likelihoods": all_likelihoods}

    def forward_keyframe(self, x: Tensor) -> tuple[Tensor, dict[str, dict[str, Tensor]]]:
        """``(x_hat, {"keyframe": likelihoods})`` of a frame on its own."""
        y_hat, likelihoods = self.img_hyperprior(self._latent(self.img_encoder, x))
        return self.img_decoder(y_hat), {"keyframe": likelihoods}

    def forward_inter(
        self, x_cur: Tensor, x_ref: Tensor
    ) -> tuple[Tensor, dict[str, dict[str, Tensor]]]:
        """``(x_hat, {"motion": likelihoods, "residual": likelihoods})`` of a frame.

        Args:
            x_cur: the frame ``(N, 3, H, W)``.
            x_ref: the decoded frame before.
        """
        y_motion = self._latent(self.motion_encoder, torch.cat((x_cur, x_ref), dim=1))
        y_motion_hat, motion_likelihoods = self.motion_hyperprior(y_motion)
        x_pred = self.forward_prediction(x_ref, self.motion_decoder(y_motion_hat))
        y_res = self._latent(self.res_encoder, x_cur - x_pred)
        y_res_hat, res_likelihoods = self.res_hyperprior(y_res)
        x_hat = self._add_residual(x_pred, y_res_hat, y_motion_hat)
        return x_hat, {"motion": motion_likelihoods, "residual": res_likelihoods}

    @staticmethod
    def _latent(encoder: nn.Module, x: Tensor) -> Tensor:
        y = encoder(x)
        check_latent_size(x, y, 8)
        return y

    def _add_residual(self, x_pred: Tensor, y_res_hat: Tensor, y_motion_hat: Tensor) -> Tensor:
        return x_pred + self.res_decoder(torch.cat((y_res_hat, y_motion_hat), dim=1))

    # -- prediction ------------------------------------------------------------------------------

    @staticmethod
    def gaussian_volume(x: Tensor, sigma: float, num_levels: int) -> Tensor:
        """An image and ever more blurred versions of it.

        Args:
            x: ``(N, C, H, W)``; sides must be multiples of ``2 ** (num_levels - 1)``.
            sigma: standard deviation of the blur at each level, in pixels of that level; each
                level has half the resolution of the one before.
            num_levels: number of blurred versions.

        Returns:
            ``(N, C, num_levels + 1, H, W)``, all in the resolution of ``x``.

        Raises:
            ValueError: the sides do not fit.
        """
        multiple = 2 ** (num_levels - 1)
        if x.size(-2) % multiple or x.size(-1) % multiple:
            raise ValueError(
                f"height and width must be multiples of {multiple} for {num_levels} levels, got "
                f"{x.size(-2)} x {x.size(-1)}"
            )
        kernel = gaussian_kernel2d(2 * math.ceil(3 * sigma) + 1, sigma, x.device, x.dtype)
        level = gaussian_blur(x, kernel=kernel)
        slices = [x, level]
        for halvings in range(1, num_levels):
            level = gaussian_blur(F.avg_pool2d(level, 2), kernel=kernel)
            enlarged = level
            # One doubling after the other: a single step of 2 ** halvings interpolates otherwise.
            for _ in range(halvings):
                enlarged = F.interpolate(
                    enlarged, scale_factor=2, mode="bilinear", align_corners=False
                )
            slices.append(enlarged)
        return torch.stack(slices, dim=2)

    def warp_volume(
        self, volume: Tensor, flow: Tensor, scale_field: Tensor, padding_mode: str = "border"
    ) -> Tensor:
        """Sample a volume at displaced positions, linearly in all three directions.

        Args:
            volume: ``(N, C, L, H, W)``.
            flow: displacement ``(N, 2, H, W)``: x and y, in half widths and heights.
            scale_field: depth ``(N, 1, H, W)``, from -1 (first slice) to 1 (last slice).
            padding_mode: as in :func:`torch.nn.functional.grid_sample`.

        Returns:
            ``(N, C, H, W)``.

        Raises:
            ValueError: ``volume`` is not five-dimensional.
        """
        if volume.dim() != 5:
            raise ValueError(
                f"volume must have five dimensions (N, C, L, H, W), got {tuple(volume.shape)}"
            )
        N, C, _, H, W = volume.shape
        positions = meshgrid2d(N, C, H, W, volume.device) + flow.permute(0, 2, 3, 1)
        grid = torch.cat((positions, scale_field.permute(0, 2, 3, 1)), dim=-1)
        sampled = F.grid_sample(
            volume, grid[:, None], padding_mode=padding_mode, align_corners=False
        )
        return sampled[:, :, 0]

    def forward_prediction(self, x_ref: Tensor, motion_info: Tensor) -> Tensor:
        """A frame predicted from the decoded frame before, in single precision.

        Args:
            x_ref: ``(N, C, H, W)``.
            motion_info: ``(N, 3, H, W)``: flow and scale field, see :meth:`warp_volume`.

        Returns:
            ``(N, C, H, W)``, float32.
        """
        with torch.autocast(x_ref.device.type, enabled=False):
            flow, scale_field = motion_info.float().split((2, 1), dim=1)
            volume = self.gaussian_volume(x_ref.float(), self.sigma0, self.num_levels)
            return self.warp_volume(volume, flow, scale_field)

    # -- coding ----------------------------------------------------------------------------------

    @coding
    def encode_keyframe(
        self, x: Tensor, *, sync_safe: bool = False, tolerance: float = DEFAULT_TOLERANCE
    ) -> tuple[Tensor, dict[str, Any]]:
        """Code a frame on its own.

        Args:
            x: the frame ``(N, 3, H, W)``.
            sync_safe: make strings that decode to the same ``"y_hat"`` on every machine, see
                ``docs/synchrony.md``. Decode them with ``sync_safe``, too.
            tolerance: how far the arithmetic of such machines may be apart.

        Returns:
            ``(x_hat, {"strings": [y, z], "shape": size of z, "y_hat"})``; ``x_hat`` is not clamped.
        """
        y_hat, coded = self.img_hyperprior.compress(
            self._latent(self.img_encoder, x), sync_safe=sync_safe, tolerance=tolerance
        )
        return self.img_decoder(y_hat), coded

    @coding
    def decode_keyframe(
        self,
        strings: Strings,
        shape: Sequence[int],
        *,
        sync_safe: bool = False,
        with_latent: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """``x_hat`` of :meth:`encode_keyframe`, from what it gave.

        With ``with_latent``, also its ``"y_hat"``.
        """
        y_hat, latent = self.img_hyperprior.decompress(
            strings, shape, sync_safe=sync_safe, with_latent=True
        )
        x_hat = self.img_decoder(y_hat)
        return (x_hat, latent) if with_latent else x_hat

    @coding
    def encode_inter(
        self,
        x_cur: Tensor,
        x_ref: Tensor,
        *,
        sync_safe: bool = False,
        tolerance: float = DEFAULT_TOLERANCE,
    ) -> tuple[Tensor, dict[str, Any]]:
        """Code a frame.

        Args:
            x_cur: the frame ``(N, 3, H, W)``.
            x_ref: the decoded frame before.
            sync_safe, tolerance: as :meth:`encode_keyframe`. No latent's coding depends on
                ``x_ref``, so that frames before do not matter for ``"y_hat"``.

        Returns:
            ``(x_hat, {"strings": {"motion", "residual"}, "shape", "y_hat": {the same}})``;
            strings are ``[y, z]``, shapes are sizes of ``z``. ``x_hat`` is not clamped.
        """
        how: dict[str, Any] = {"sync_safe": sync_safe, "tolerance": tolerance}
        y_motion = self._latent(self.motion_encoder, torch.cat((x_cur, x_ref), dim=1))
        y_motion_hat, motion = self.motion_hyperprior.compress(y_motion, **how)
        x_pred = self.forward_prediction(x_ref, self.motion_decoder(y_motion_hat))
        y_res_hat, residual = self.res_hyperprior.compress(
            self._latent(self.res_encoder, x_cur - x_pred), **how
        )
        x_hat = self._add_residual(x_pred, y_res_hat, y_motion_hat)
        return x_hat, {key: {"motion": motion[key], "residual": residual[key]} for key in motion}

    @coding
    def decode_inter(
        self,
        x_ref: Tensor,
        strings: Mapping[str, Strings],
        shapes: Mapping[str, Sequence[int]],
        *,
        sync_safe: bool = False,
        with_latent: bool = False,
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """``x_hat`` of :meth:`encode_inter`, from the decoded frame before and what it gave.

        With ``with_latent``, also its ``"y_hat"``.

        Raises:
            ValueError: motion or residual is missing, or a string is damaged.
        """
        for name, value in (("strings", strings), ("shapes", shapes)):
            if set(value) != {"motion", "residual"}:
                raise ValueError(f"{name} must have 'motion' and 'residual', got {sorted(value)}")
        (y_motion_hat, motion), (y_res_hat, residual) = (
            hyperprior.decompress(strings[k], shapes[k], sync_safe=sync_safe, with_latent=True)
            for k, hyperprior in (
                ("motion", self.motion_hyperprior),
                ("residual", self.res_hyperprior),
            )
        )
        x_pred = self.forward_prediction(x_ref, self.motion_decoder(y_motion_hat))
        x_hat = self._add_residual(x_pred, y_res_hat, y_motion_hat)
        return (x_hat, {"motion": motion, "residual": residual}) if with_latent else x_hat

    @coding
    def compress(
        self,
        frames: Sequence[Tensor],
        *,
        sync_safe: bool = False,
        tolerance: float = DEFAULT_TOLERANCE,
    ) -> tuple[list[Any], list[Any]]:
        """Code a group of frames, the first one as key frame.

        Args:
            frames: list or tuple of ``(N, 3, H, W)`` in [0, 1].
            sync_safe, tolerance: as :meth:`encode_keyframe`.

        Returns:
            ``(strings, shapes)`` with one entry a frame, see :meth:`encode_keyframe` and
            :meth:`encode_inter`. Frames are predicted from reconstructions that are not clamped.

        Raises:
            TypeError: ``frames`` is no list or tuple.
            ValueError: it is empty, frames differ in shape, the sides do not fit, or values are
                not finite.
        """
        _check_frames(frames)
        how: dict[str, Any] = {"sync_safe": sync_safe, "tolerance": tolerance}
        x_ref, coded = self.encode_keyframe(frames[0], **how)
        strings, shapes = [coded["strings"]], [coded["shape"]]
        for frame in frames[1:]:
            x_ref, coded = self.encode_inter(frame, x_ref, **how)
            strings.append(coded["strings"])
            shapes.append(coded["shape"])
        return strings, shapes

    @coding
    def decompress(
        self, strings: Sequence[Any], shapes: Sequence[Any], *, sync_safe: bool = False
    ) -> list[Tensor]:
        """Decode a group of frames.

        Args:
            strings, shapes: what :meth:`compress` gave.
            sync_safe: what :meth:`compress` got.

        Returns:
            List of ``x_hat`` ``(N, 3, H, W)``, not clamped.

        Raises:
            TypeError: ``strings`` or ``shapes`` is no list or tuple.
            ValueError: they are empty or of different length, or a string is damaged.
        """
        for name, value in (("strings", strings), ("shapes", shapes)):
            if not isinstance(value, (list, tuple)):
                raise TypeError(f"{name} must be a list or tuple, got {type(value).__name__}")
        if len(strings) != len(shapes) or not strings:
            raise ValueError(
                "strings and shapes must have one entry a frame, and one frame at least, got "
                f"{len(strings)} and {len(shapes)}"
            )
        frames = [self.decode_keyframe(strings[0], shapes[0], sync_safe=sync_safe)]
        for one in zip(strings[1:], shapes[1:]):
            frames.append(self.decode_inter(frames[-1], *one, sync_safe=sync_safe))
        return frames

    def aux_loss(self) -> list[Tensor]:  # type: ignore[override]
        """The auxiliary losses of key frames, residuals and motion, in this order."""
        return [
            hyperprior.aux_loss()
            for hyperprior in (self.img_hyperprior, self.res_hyperprior, self.motion_hyperprior)
        ]

    @classmethod
    def from_state_dict(
        cls, state_dict: Mapping[str, Any], num_levels: int = 5, sigma0: float = 1.5
    ) -> ScaleSpaceFlow:
        """Build a model and load weights into it.

        Args:
            state_dict: weights, or a checkpoint that holds them.
            num_levels, sigma0: those of the model that was trained; weights do not tell.

        Returns:
            The model.

        Raises:
            ValueError: the weights are of another model.
        """
        state_dict = clean_state_dict(state_dict)
        N = entry_size(state_dict, "motion_encoder.0.weight", 0, cls)
        M = entry_size(state_dict, "motion_encoder.6.weight", 0, cls)
        net = cls(num_levels, sigma0, N=N, M=M)
        net.load_state_dict(state_dict)
        return net


def _check_frames(frames: Sequence[Tensor]) -> None:
    if not isinstance(frames, (list, tuple)):
        raise TypeError(f"frames must be a list or tuple of tensors, got {type(frames).__name__}")
    shapes = {tuple(frame.shape) for frame in frames}
    if len(shapes) != 1:
        raise ValueError(f"frames must be at least one and of the same shape, got {sorted(shapes)}")


# -- rows --------------------------------------------------------------------------------------

register_entry(
    ModelEntry(
        name="ssf2020",
        model=ScaleSpaceFlow,
        summary="Scale-space flow",
        paper="Agustsson et al. 2020, Scale-space flow for end-to-end optimized video compression",
        video=True,
        sizes=at_qualities((9, {})),
        needs_quality=True,
        weights={
            "mse": numbered(
                "ssf2020-mse-{}-{}.pth.tar",
                "c1ac1a47 79ed4e19 9c8b998d 577c1eda 1dd7d574 59dfb6f9 4d867411 26439e20 e89345c4",
            )
        },
        licence="BSD-3-Clause-Clear",
        multiple=128,
    )
)
