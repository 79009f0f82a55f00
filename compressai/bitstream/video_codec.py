# SPDX-License-Identifier: BSD-3-Clause-Clear
"""From raw video to a coded video and back, with any video model, a frame at a time."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any, BinaryIO

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from compressai._files import open_regular
from compressai.bitstream._nets import (
    build_tables,
    check_entropy_coder,
    pad_to_multiple,
    padding_multiple,
)
from compressai.bitstream.errors import (
    BitstreamError,
    DamagedFileError,
    DesyncError,
    NotACodedImageError,
    TooLargeError,
    TruncatedFileError,
    WrongWeightsError,
)
from compressai.bitstream.hashes import (
    fingerprint,
    hash_latent,
    sketch_distance,
    sketch_frame,
)
from compressai.bitstream.legacy_video import LegacyVideoReader
from compressai.bitstream.limits import MAX_FRAMES, MAX_PIXELS
from compressai.bitstream.tiling import padded_side
from compressai.bitstream.video_container import (
    VIDEO_MAGIC,
    CavReader,
    CodedFrame,
    VideoHeader,
    VideoReader,
    VideoWriter,
)
from compressai.datasets import RawVideoSequence
from compressai.datasets.rawvideo import bitdepth_to_dtype
from compressai.ops import compute_padding
from compressai.transforms import (
    frame_to_planes,
    planes_to_frame,
    planes_to_rgb,
    rgb_to_planes,
)

__all__ = ["FrameCoder", "decode_video", "encode_video", "frame_to_rgb", "open_video", "to_frame"]

# Half a step of 8 bits. Rounding moves frames by a thousandth of that.
_DRIFT = 1 / 512
_SYNC_METHODS = ("encode_keyframe", "decode_keyframe", "encode_inter", "decode_inter")


def frame_to_rgb(frame: np.void, sequence: RawVideoSequence) -> Tensor:
    """A frame of raw video as the network sees it: RGB ``(1, 3, H, W)``, chroma enlarged bicubic.

    Values are in [0, 1] but for colours that RGB does not hold.
    """
    planes = frame_to_planes(frame, 2**sequence.bitdepth - 1)
    return planes_to_rgb(planes, sequence.format, mode="bicubic")


def to_frame(rgb: Tensor, header: VideoHeader) -> np.ndarray:
    """RGB ``(1, 3, H, W)`` in [0, 1] as a frame of raw video, in the byte order of the machine."""
    planes = rgb_to_planes(rgb, header.format)
    return planes_to_frame(
        planes, header.format, header.bitdepth, bitdepth_to_dtype[header.bitdepth]
    )


class FrameCoder:
    """Codes or decodes the frames of one video in order, and holds the frame before.

    Args:
        net: video model, with tables.
        height, width: size of a frame.
        centred: frames are padded to multiples of this, in the centre of zeros, as CompressAI
            does; 0 for the upper left corner with the edges repeated.
        sync_safe: strings are those of a model's ``sync_safe=True``.
        hashes: frames get a hash of their latents, which decoding compares.
        sketches: frames get a sketch of what they decode to, which decoding compares.

    Raises:
        ValueError: ``net`` cannot do what ``sync_safe`` or ``hashes`` ask for.
    """

    def __init__(
        self,
        net: nn.Module,
        height: int,
        width: int,
        *,
        centred: int = 0,
        sync_safe: bool = False,
        hashes: bool = False,
        sketches: bool = False,
    ) -> None:
        for name, asked, argument in (
            ("sync_safe", sync_safe, "sync_safe"),
            ("hash_latents", hashes, "with_latent"),
        ):
            if asked and not _takes(net, argument):
                raise ValueError(
                    f"{name} must be False for {type(net).__name__}, whose frames cannot be coded "
                    "that way"
                )
        self.net = net
        self.height, self.width = height, width
        self.multiple = centred or padding_multiple(net)
        self.centred = centred
        self.sync_safe, self.hashes, self.sketches = sync_safe, hashes, sketches
        # The format has the size of the only coded latent, z, follow from that of the frame.
        self.shape = torch.Size((-(-height // self.multiple), -(-width // self.multiple)))
        self._parameter = next(net.parameters())
        self._reference: Tensor | None = None
        self._arguments: dict[str, Any] = {"sync_safe": True} if sync_safe else {}

    def encode(self, rgb: Tensor, is_key: bool) -> tuple[CodedFrame, Tensor]:
        """Code the next frame.

        Args:
            rgb: ``(1, 3, H, W)`` in [0, 1].
            is_key: code it without the frame before.

        Returns:
            The strings, and what a decoder makes of them: ``(1, 3, H, W)`` in [0, 1].
        """
        x = self.pad(rgb.to(self._parameter))
        is_key = is_key or self._reference is None
        if is_key:
            x_hat, out = self.net.encode_keyframe(x, **self._arguments)
            parts = [out["strings"]]
        else:
            x_hat, out = self.net.encode_inter(x, self._reference, **self._arguments)
            parts = [out["strings"]["motion"], out["strings"]["residual"]]
        kept = self.keep(x_hat)
        frame = CodedFrame(
            is_key,
            tuple(map(_first_of_each, parts)),
            _hash_of(out["y_hat"]) if self.hashes else b"",
            sketch_frame(kept[0]) if self.sketches else b"",
        )
        return frame, kept

    def decode(self, frame: CodedFrame) -> Tensor:
        """Decode the next frame.

        Returns:
            ``(1, 3, H, W)`` in [0, 1].

        Raises:
            DamagedFileError: strings are damaged, or the frame before is missing.
            DesyncError: the frame has a hash or a sketch, and decodes to something else here.
        """
        parts = [[[string] for string in part] for part in frame.parts]
        arguments = dict(self._arguments)
        if frame.latent_hash:
            arguments["with_latent"] = True
        try:
            if frame.is_key:
                out = self.net.decode_keyframe(parts[0], self.shape, **arguments)
            elif self._reference is None:
                raise DamagedFileError("the frame that this one is predicted from is missing")
            else:
                out = self.net.decode_inter(
                    self._reference,
                    {"motion": parts[0], "residual": parts[1]},
                    {"motion": self.shape, "residual": self.shape},
                    **arguments,
                )
        except BitstreamError:
            raise
        except ValueError as error:
            raise self._failure(frame, f"the strings are damaged: {error}") from error
        x_hat, latent = out if frame.latent_hash else (out, None)
        if not bool(torch.isfinite(x_hat).all()):
            raise self._failure(frame, "the frame has values that are not finite")
        if frame.latent_hash and _hash_of(latent) != frame.latent_hash:
            raise self._failure(frame, "another latent")
        kept = self.keep(x_hat)
        if frame.sketch:
            drift = sketch_distance(sketch_frame(kept[0]), frame.sketch)
            if drift > _DRIFT:
                raise self._failure(
                    frame, f"samples are off by some {drift:.4f}, more than {_DRIFT:.4f}"
                )
        return kept

    @staticmethod
    def _failure(frame: CodedFrame, reason: str) -> BitstreamError:
        # Without these, nothing tells damage from a decoder that cannot follow.
        if not frame.latent_hash and not frame.sketch:
            return DamagedFileError(reason)
        return DesyncError(
            f"the file is intact but decodes to something else here ({reason}): decode it on the "
            "kind of machine, in the precision and with the version of torch that it was coded with"
        )

    def forget(self) -> None:
        """Drop the frame before: only a key frame can come next."""
        self._reference = None

    def pad(self, x: Tensor) -> Tensor:
        """A frame with the sides that the network needs."""
        if not self.centred:
            return pad_to_multiple(x, self.multiple)
        padding, _ = compute_padding(self.height, self.width, min_div=self.multiple)
        return F.pad(x, padding)

    def keep(self, x_hat: Tensor) -> Tensor:
        """Take a reconstruction as the frame before, and crop it."""
        self._reference = x_hat.clamp(0, 1)
        top = left = 0
        if self.centred:
            (left, _, top, _), _ = compute_padding(self.height, self.width, min_div=self.multiple)
        return self._reference[..., top : top + self.height, left : left + self.width]

    @property
    def reference(self) -> Tensor | None:
        """The decoded frame before, padded."""
        return self._reference


def _takes(net: nn.Module, argument: str) -> bool:
    """Whether a model's methods for frames take an argument, those that decode at least."""
    return all(
        argument in inspect.signature(getattr(net, name)).parameters
        for name in _SYNC_METHODS
        if argument == "sync_safe" or name.startswith("decode")
    )


def _hash_of(y_hat: Tensor | Mapping[str, Tensor]) -> bytes:
    latents = [y_hat] if isinstance(y_hat, Tensor) else [y_hat["motion"], y_hat["residual"]]
    return hash_latent(torch.cat([latent.flatten() for latent in latents]))


def _first_of_each(strings: Sequence[Sequence[bytes]]) -> tuple[bytes, ...]:
    return tuple(string for (string,) in strings)


def encode_video(
    net: nn.Module,
    sequence: RawVideoSequence,
    file: BinaryIO,
    *,
    model: str,
    quality: int | None = None,
    metric: str | None = None,
    random_weights: bool = False,
    frames: int | None = None,
    gop: int = 0,
    sync_safe: bool | None = None,
    hash_latents: bool | None = None,
    max_pixels: int = MAX_PIXELS,
    max_frames: int = MAX_FRAMES,
    on_frame: Callable[[int], Any] | None = None,
) -> VideoHeader:
    """Code a raw video into a ``.cav`` file, a frame at a time.

    Args:
        net: video model.
        sequence: the video.
        file: binary file that is written from where it stands.
        model, quality, metric, random_weights: what the file says about the weights.
        frames: how many, from the first; all if ``None``.
        gop: distance between key frames; 0: only the first frame is one. At a key frame, decoding
            can begin, and damage ends.
        sync_safe: code so that differences in floating-point rounding between machines do not
            matter for what is decoded. Default: where the model can.
        hash_latents: store hashes of latents, which the decoder compares. Default: where latents
            are the same to the bit on every machine, which is what ``sync_safe`` is for. A sketch
            of each frame, which allows for rounding, is always stored.
        max_pixels: largest area of a frame, padding included, that is coded.
        max_frames: largest number of frames that is coded.
        on_frame: called with the number of each frame that is done.

    Returns:
        What the file says about itself.

    Raises:
        ValueError: no such number of frames, a negative ``gop``, frames that are too large or too
            many, a network that codes no video, uses another entropy coder, cannot do what
            ``sync_safe`` or ``hash_latents`` ask for, or gives values that are not finite.
    """
    check_video_model(net)
    count = len(sequence) if frames is None else frames
    if not 1 <= count <= len(sequence):
        raise ValueError(f"frames must be in 1 ... {len(sequence)}, got {count}")
    if gop < 0:
        raise ValueError(f"gop must be 0 or positive, got {gop}")
    check_entropy_coder(net)
    problem = _too_large(sequence, padding_multiple(net), max_pixels)
    problem = problem or _too_many(count, max_frames)
    if problem:
        raise ValueError(problem)
    if sync_safe is None:
        sync_safe = _takes(net, "sync_safe")
    if hash_latents is None:
        hash_latents = sync_safe and _takes(net, "with_latent")
    coder = FrameCoder(
        net,
        sequence.height,
        sequence.width,
        sync_safe=sync_safe,
        hashes=hash_latents,
        sketches=True,
    )
    build_tables(net)
    header = VideoHeader(
        model=model,
        quality=quality,
        metric=metric,
        random_weights=random_weights,
        fingerprint=fingerprint(net),
        width=sequence.width,
        height=sequence.height,
        format=sequence.format,
        bitdepth=sequence.bitdepth,
        framerate=None if sequence.framerate is None else exact_rate(sequence.framerate),
        frames=count,
        gop=gop,
        sync_safe=sync_safe,
        hashes=hash_latents,
        sketches=True,
    )
    writer = VideoWriter(file, header)
    for number in range(count):
        is_key = number % gop == 0 if gop else number == 0
        frame, _ = coder.encode(frame_to_rgb(sequence[number], sequence), is_key)
        writer.write(frame)
        if on_frame is not None:
            on_frame(number)
    return header


def open_video(source: str | os.PathLike[str] | BinaryIO) -> VideoReader:
    """Open a coded video of either format, ``.cav`` or of CompressAI 1.2.

    Args:
        source: path of a regular file, or binary file at its start that can seek.

    Returns:
        What the file says about itself, and its frames; :func:`decode_video` decodes them. It is
        a context manager that closes the file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is a pipe, a device or the like.
        NotACodedImageError, DamagedFileError: it is of neither format, or damaged.
    """
    file = open_regular(source) if isinstance(source, (str, os.PathLike)) else source
    try:
        start = file.read(len(VIDEO_MAGIC))
        file.seek(-len(start), os.SEEK_CUR)
        if not start:
            raise TruncatedFileError("the file is empty")
        if start[:1] == VIDEO_MAGIC[:1]:
            return CavReader(file)
        try:
            return LegacyVideoReader(file)
        except NotACodedImageError as error:
            raise NotACodedImageError(f"{error}; .cav files start with {VIDEO_MAGIC!r}") from error
    except Exception:
        if file is not source:
            file.close()
        raise


def decode_video(
    net: nn.Module,
    reader: VideoReader,
    *,
    conceal: bool = False,
    on_loss: Callable[[int, BitstreamError], Any] | None = None,
    max_pixels: int = MAX_PIXELS,
    max_frames: int = MAX_FRAMES,
) -> Iterator[np.ndarray]:
    """Decode a video, a frame at a time.

    Args:
        net: the model that coded it, with the same weights.
        reader: the coded video, see :func:`open_video`.
        conceal: in place of frames that are damaged, that decode to something else here than was
            coded, or that are predicted from such ones, repeat the last one that is not (grey at
            the start), and go on with the next key frame; end where the file ends. So that a
            small file cannot make a large video, it also ends where concealed frames would have
            ``max_pixels`` more in all than decoded ones; one may always be concealed.
        on_loss: called with the number of each frame that is lost and the reason. Where decoding
            ends early, the last call is for the first frame that is not given.
        max_pixels: largest area of a frame, padding included, that is decoded.
        max_frames: largest number of frames that a file may announce.

    Yields:
        Frames as records in the format and bit depth of the source; ``tobytes()`` of one is what
        a raw video file holds.

    Raises:
        TooLargeError: frames are larger than ``max_pixels``, or more than ``max_frames``.
        WrongWeightsError: ``net`` has other weights.
        DamagedFileError: a frame is damaged; not with ``conceal``.
        DesyncError: a frame decodes to something else here than was coded; not with ``conceal``.
    """
    check_video_model(net)
    header = reader.header
    problem = _too_large(header, header.centred or padding_multiple(net), max_pixels)
    problem = problem or _too_many(header.frames, max_frames)
    if problem:
        raise TooLargeError(problem)
    build_tables(net)
    # Without one, a file tells of nothing but names.
    if header.fingerprint and fingerprint(net) != header.fingerprint:
        raise WrongWeightsError(
            f"the file was made with other weights of {header.model} than those at hand "
            f"(fingerprints {header.fingerprint.hex()} and {fingerprint(net).hex()}); name the "
            "checkpoint it was made with"
        )
    coder = FrameCoder(
        net,
        header.height,
        header.width,
        centred=header.centred,
        sync_safe=header.sync_safe,
        hashes=header.hashes,
        sketches=header.sketches,
    )
    last = to_frame(torch.full((1, 3, header.height, header.width), 0.5), header)
    area = header.height * header.width
    # Frames that may still be concealed: what is decoded costs its maker strings, and us time.
    credit = max(1, max_pixels // area)
    for number in range(header.frames):
        try:
            last = to_frame(coder.decode(reader.read(number)).float().cpu(), header)
            credit += 1
        except (DamagedFileError, DesyncError) as error:
            if not conceal:
                raise type(error)(f"frame {number}: {error}") from error
            coder.forget()
            # A header that promises a million frames must not make a small file a large one.
            is_end = isinstance(error, TruncatedFileError)
            if not is_end and not credit:
                is_end = True
                error = DamagedFileError(
                    f"too many frames are lost, decoding ends here ({error}); raise max_pixels "
                    "for more"
                )
            credit -= 1
            if on_loss is not None:
                on_loss(number, error)
            if is_end:
                return
        yield last


def check_video_model(net: nn.Module) -> None:
    """Refuse models of images.

    Raises:
        ValueError: it cannot code key frames and predicted ones.
    """
    if not hasattr(net, "encode_keyframe"):
        raise ValueError(
            f"net must be a video model, such as ssf2020, got {type(net).__name__}, which is one "
            "of images"
        )


def exact_rate(framerate: Fraction | float) -> Fraction:
    """A frame rate as a fraction that fits into two 32-bit numbers."""
    return Fraction(framerate).limit_denominator(10**6)


def _too_large(video: RawVideoSequence | VideoHeader, multiple: int, max_pixels: int) -> str | None:
    area = padded_side(video.height, multiple) * padded_side(video.width, multiple)
    if area <= max_pixels:
        return None
    return (
        f"the frames have {video.width} x {video.height} pixels (padded: {area}), more than the "
        f"limit of {max_pixels}: raise max_pixels if there is enough memory"
    )


def _too_many(frames: int, max_frames: int) -> str | None:
    if frames <= max_frames:
        return None
    return (
        f"the video has {frames} frames, more than the limit of {max_frames}: raise max_frames if "
        "so many are wanted"
    )
