# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Rate and distortion of groups of frames."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["VideoRateDistortionLoss"]

Frame = Tensor | Sequence[Tensor]


class VideoRateDistortionLoss(nn.Module):
    """What a video model pays for a group of frames.

    ``loss = lmbda * (2 ** bitdepth - 1) ** 2 * mse + bpp``, where ``mse`` is the mean over the
    frames, and ``bpp`` the bits of all frames per pixel of all frames.

    Args:
        lmbda: weight of the distortion.
        return_details: also return the parts of the loss.
        bitdepth: code values for which ``lmbda`` is meant.

    Source: Agustsson et al. 2020, "Scale-space flow for end-to-end optimized video compression".
    """

    def __init__(
        self, lmbda: float = 1e-2, return_details: bool = False, bitdepth: int = 8
    ) -> None:
        super().__init__()
        self.lmbda = lmbda
        self.return_details = bool(return_details)
        self.bitdepth = bitdepth

    def forward(self, output: Mapping[str, Any], target: Sequence[Frame]) -> dict[str, Tensor]:
        """Loss of a group.

        Args:
            output: of a video model: ``x_hat``, a list of frames, and ``likelihoods``, for each
                frame a dictionary of dictionaries of tensors, by label and field.
            target: list or tuple of frames ``(N, C, H, W)``, or of tuples of planes, the first of
                which has the resolution of the frame.

        Returns:
            0-d ``loss``, ``bpp_loss``, ``mse_loss`` and ``distortion`` (that of code values). With
            details also ``frame{i}.mse_loss`` ``(N,)``, and sums over the batch of bits per pixel:
            ``bpp_loss.{label}``, ``bpp_loss.{label}.{i}``, ``bpp_loss.{label}.{i}.{field}`` and
            ``bpp_loss.{i}``.

        Raises:
            AssertionError: ``target`` and ``x_hat`` differ in type or length.
            ValueError: they are not lists or tuples of such frames, or empty.
            RuntimeError: frames differ in shape or number of planes, or likelihoods in number.
        """
        x_hat, likelihoods = output["x_hat"], output["likelihoods"]
        # AssertionError is what callers of CompressAI expect here.
        if type(x_hat) is not type(target) or len(x_hat) != len(target):
            raise AssertionError(
                f"target must be like x_hat, {type(x_hat).__name__} of {len(x_hat)} frames, got "
                f"{type(target).__name__} of {len(target)}"
            )
        for name, frames in (("target", target), ("x_hat", x_hat)):
            _check_frames(name, frames)
        if len(likelihoods) != len(target):
            raise RuntimeError(f"{len(target)} frames have {len(likelihoods)} likelihoods")
        count, _, height, width = _planes(target[0])[0].shape
        num_pixels = height * width * len(target)

        details: dict[str, Tensor] = {}
        errors = torch.stack([_mse(*pair) for pair in zip(x_hat, target, strict=True)])
        details.update({f"frame{i}.mse_loss": mse for i, mse in enumerate(errors)})
        bpp = _bpp(likelihoods, num_pixels, count, details)

        distortion = errors.mean(dim=0) * (2**self.bitdepth - 1) ** 2
        bpp_loss = bpp.mean()
        return {
            "mse_loss": errors.mean(),
            **(details if self.return_details else {}),
            "loss": (self.lmbda * distortion).mean() + bpp_loss,
            "distortion": distortion.mean(),
            "bpp_loss": bpp_loss,
        }


def _planes(frame: Frame) -> tuple[Tensor, ...]:
    return (frame,) if isinstance(frame, Tensor) else tuple(frame)


def _check_frames(name: str, frames: Sequence[Frame]) -> None:
    is_list = isinstance(frames, (list, tuple)) and len(frames) > 0
    if not is_list or not all(_is_frame(frame) for frame in frames):
        raise ValueError(
            f"{name} must be a list or tuple of tensors (N, C, H, W), or of tuples of such, and "
            "not be empty"
        )


def _is_frame(frame: Any) -> bool:
    if not isinstance(frame, (Tensor, tuple)):
        return False
    planes = _planes(frame)
    return bool(planes) and all(isinstance(p, Tensor) and p.dim() == 4 for p in planes)


def _mse(x_hat: Frame, target: Frame) -> Tensor:
    """Mean squared error of each item ``(N,)``: the mean of those of the planes."""
    pairs = list(zip(_planes(x_hat), _planes(target), strict=False))
    if len(_planes(x_hat)) != len(_planes(target)) or any(a.shape != b.shape for a, b in pairs):
        shapes = [[tuple(p.shape) for p in _planes(frame)] for frame in (x_hat, target)]
        raise RuntimeError(f"frames must have the same shape, got {shapes[0]} and {shapes[1]}")
    return torch.stack([(a - b).square().mean(dim=(1, 2, 3)) for a, b in pairs]).mean(dim=0)


def _bpp(
    likelihoods: Sequence[Mapping[str, Mapping[str, Tensor]]],
    num_pixels: int,
    count: int,
    details: dict[str, Tensor],
) -> Tensor:
    """Bits per pixel of each item ``(N,)``; adds the parts of it to ``details``."""

    def add(key: str, value: Tensor) -> None:
        details[key] = details[key] + value if key in details else value

    total: Tensor | None = None
    for i, label, field, likelihood in _walk(likelihoods):
        if likelihood.size(0) != count:
            raise RuntimeError(f"{label}.{field} is of {likelihood.size(0)} items, not {count}")
        bpp = likelihood.log2().flatten(start_dim=1).sum(dim=1) / -num_pixels
        total = bpp if total is None else total + bpp
        part = bpp.detach().sum()
        details[f"bpp_loss.{label}.{i}.{field}"] = part
        for key in (f"bpp_loss.{label}.{i}", f"bpp_loss.{label}", f"bpp_loss.{i}"):
            add(key, part)
    if total is None:
        raise RuntimeError("there are no likelihoods")
    return total


def _walk(
    likelihoods: Sequence[Mapping[str, Mapping[str, Tensor]]],
) -> Iterator[tuple[int, str, str, Tensor]]:
    for i, labels in enumerate(likelihoods):
        for label, fields in labels.items():
            for field, likelihood in fields.items():
                yield i, label, field, likelihood
