# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Coding images to a size or a quality that the user names, by search over a model's rates."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

from compressai._decibels import psnr_of

if TYPE_CHECKING:
    from torch import Tensor

    from compressai.bitstream import CodedImage, ImageData
    from compressai.bitstream.chosen import Ladder

__all__ = ["TARGETS", "Target", "encode_to_target"]

# Units for messages; the first two are upper limits, the others lower ones.
TARGETS = {"bytes": "bytes", "bpp": "bits per pixel", "psnr": "dB", "ms-ssim": ""}
_SIZES = ("bytes", "bpp")
# When a result on a scale is near enough: by what it may be better, else by which share smaller.
_NEAR = {"psnr": 0.02, "ms-ssim": 0.0002}
_NEAR_SHARE = 0.005
_HALVINGS = 6


@dataclass(frozen=True)
class Target:
    """What a coded image is to reach.

    Attributes:
        kind: ``"bytes"`` or ``"bpp"``, of the whole file, which it is not to exceed; ``"psnr"`` in
            dB or ``"ms-ssim"``, of 8-bit RGB, which it is to reach with as few bytes as possible.
        value: how much, positive.

    Raises:
        TypeError: ``value`` is no number.
        ValueError: unknown ``kind``, or ``value`` is not positive and finite (or above 1 for
            MS-SSIM).
    """

    kind: str
    value: float

    def __post_init__(self) -> None:
        if self.kind not in TARGETS:
            raise ValueError(f"kind must be one of {', '.join(TARGETS)}, got {self.kind!r}")
        if isinstance(self.value, bool) or not isinstance(self.value, Real):
            raise TypeError(f"value must be a number, got {type(self.value).__name__}")
        if not 0 < self.value < math.inf:
            raise ValueError(
                f"a target of {self.kind} must be positive and finite, got {self.value}"
            )
        if self.kind == "ms-ssim" and self.value > 1:
            raise ValueError(f"a target of ms-ssim must be at most 1, got {self.value}")

    @property
    def is_size(self) -> bool:
        """Whether it is an upper limit of the file's size."""
        return self.kind in _SIZES

    def measure(self, coded: CodedImage, net: Any, image: ImageData) -> float:
        """What a coded image has of it.

        Args:
            coded: the coded image.
            net: what decodes it, of torch or a bundle.
            image: what was coded.

        Raises:
            ValueError: the image is too small for MS-SSIM.
        """
        # Refusals and short answers need neither NumPy nor torch, which MS-SSIM alone needs.
        import numpy as np

        from compressai.bitstream import decode_image

        if self.is_size:
            size = len(coded.to_bytes())
            return size if self.kind == "bytes" else 8 * size / (coded.width * coded.height)
        if self.kind == "psnr":
            source, result = (np.asarray(_rgb(one)) for one in (image, decode_image(net, coded)))
            error = np.subtract(source, result, dtype=np.float64)
            return psnr_of(float(np.square(error, out=error).mean()), 255)
        # Needs torch.
        from compressai.evaluation.metrics import MS_SSIM_MIN_SIDE, ms_ssim

        if min(image.size) < MS_SSIM_MIN_SIDE:
            raise ValueError(
                f"a target of ms-ssim needs sides of at least {MS_SSIM_MIN_SIDE} pixels, got "
                f"{image.size[0]} x {image.size[1]}"
            )
        return ms_ssim(_rgb(image), _rgb(decode_image(net, coded)))

    def is_met(self, measured: float) -> bool:
        """Whether that is enough, or little enough."""
        return measured <= self.value if self.is_size else measured >= self.value


def encode_to_target(
    image: ImageData, target: Target, ladder: Ladder, **options: Any
) -> CodedImage:
    """Code an image with the best quality whose file is small enough, or the lowest that does.

    Sizes and fidelity grow with quality, so about ``log2`` of the number of qualities are tried.
    Where one network has all of them, it analyses the image once. On a scale, what lies between
    the best whole quality and the next one is halved until the file is at most 0.5 % smaller than
    it may be, or at most 0.02 dB or 0.0002 better than it must be, but six times at most.

    Args:
        image: what to code.
        target: what is to be reached.
        ladder: the rates to choose from.
        options: more arguments of :func:`~compressai.bitstream.encode_image`.

    Returns:
        The coded image. A size is never above its target, a fidelity never below; how near it
        comes depends on how fine the ladder is.

    Raises:
        ValueError: no quality reaches the target, or as :func:`encode_image`.
    """
    # Refusals and short answers need no torch.
    from compressai.bitstream import encode_image

    nets: dict[int, Any] = {}

    def code(quality: float) -> tuple[CodedImage, float]:
        chosen = ladder.choose(quality)
        # By identity: the rates of one network share what it remembers.
        net = nets.setdefault(id(chosen.net), _remembering(chosen.net))
        facts = {name: value for name, value in vars(chosen).items() if name != "net"}
        coded = encode_image(net, image, **facts, **options)
        return coded, target.measure(coded, net, image)

    # In the order in which the target becomes harder.
    qualities = ladder.qualities if target.is_size else ladder.qualities[::-1]
    place, best, nearest = _last_met(qualities, code, target)
    if best is None:
        bound = "smallest file" if target.is_size else "best quality"
        unit = TARGETS[target.kind] or "MS-SSIM"
        raise ValueError(
            f"{target.value:g} {unit} cannot be reached: the {bound} of {ladder.model} found for "
            f"this image has {nearest:.6g} {unit}"
        )
    if ladder.is_scale and place + 1 < len(qualities):
        return _between(qualities[place : place + 2], best, nearest, code, target)
    return best


def _between(
    qualities: Sequence[float],
    best: CodedImage,
    measured: float,
    code: Callable[[float], tuple[CodedImage, float]],
    target: Target,
) -> CodedImage:
    """The best result between a quality that meets the target, as it did, and one that does not."""
    met, missed = qualities
    for _ in range(_HALVINGS):
        if abs(target.value - measured) <= _NEAR.get(target.kind, _NEAR_SHARE * target.value):
            break
        middle = (met + missed) / 2
        coded, reached = code(middle)
        if target.is_met(reached):
            met, best, measured = middle, coded, reached
        else:
            missed = middle
    return best


def _last_met(
    qualities: Sequence[float],
    code: Callable[[float], tuple[CodedImage, float]],
    target: Target,
) -> tuple[int, CodedImage | None, float]:
    """Place and result of the last quality that meets the target, and the nearest measure."""
    best, nearest = code(qualities[0])
    low = 0
    # Files of small images may shrink by some bytes from one quality to the next.
    while not target.is_met(nearest):
        low += 1
        if low == len(qualities):
            return low, None, nearest
        best, measured = code(qualities[low])
        if measured > nearest if target.is_size else measured < nearest:
            return low, None, nearest
        nearest = measured
    high = len(qualities)
    while high - low > 1:
        middle = (low + high) // 2
        coded, measured = code(qualities[middle])
        if target.is_met(measured):
            low, best, nearest = middle, coded, measured
        else:
            high = middle
    return low, best, nearest


def _remembering(net: Any) -> Any:
    """A model like ``net`` that analyses each image once."""
    # Refusals and short answers need neither NumPy nor torch.
    import numpy as np

    # Needs onnxruntime, or is slow to import.
    from compressai.runtime import RuntimeModel

    if isinstance(net, RuntimeModel):
        return net if net.rates is None else net.remembering()

    # Torch is there if the model is.
    from compressai.bitstream._nets import rate_level
    from compressai.models._copies import shallow_copy

    if rate_level(net, None) is None or not hasattr(net, "g_a"):
        return net

    twin, analysis = shallow_copy(net), net.g_a
    known: dict[tuple[Any, bytes], Tensor] = {}

    def remembered(x: Tensor) -> Tensor:
        digest = hashlib.blake2b(np.ascontiguousarray(x.detach().cpu().numpy())).digest()
        key = (tuple(x.shape), digest)
        if key not in known:
            known[key] = analysis(x)
        return known[key]

    # Found before the module of that name, which stays registered.
    vars(twin)["g_a"] = remembered
    return twin


def _rgb(image: ImageData) -> Any:
    return image.to_image().convert("RGB")
