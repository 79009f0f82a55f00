# SPDX-License-Identifier: BSD-3-Clause-Clear
"""x264 and x265 through PyAV (extra ``video``), in this process, without an ffmpeg program."""

from __future__ import annotations

import os
from collections.abc import Callable
from fractions import Fraction
from types import ModuleType
from typing import Any

import numpy as np

from compressai._files import atomic_write
from compressai.datasets import RawVideoSequence, VideoFormat
from compressai.evaluation._extras import require

__all__ = ["TUNES", "decode_mp4", "encode_mp4", "pyav"]

TUNES = ("psnr", "ssim", "grain", "fastdecode", "zerolatency")
_ENCODERS = {"x264": "libx264", "x265": "libx265"}
_PIXELS = {8: "yuv420p", 10: "yuv420p10le"}


def pyav() -> ModuleType:
    """The package PyAV.

    Raises:
        ImportError: it is not installed; names the command that installs it.
    """
    return require("av", "video", "coding with x264 or x265")


def encode_mp4(
    sequence: RawVideoSequence,
    target: str | os.PathLike[str],
    codec: str,
    *,
    crf: int,
    preset: str = "medium",
    tune: str = "psnr",
    threads: int = 4,
) -> None:
    """Code 4:2:0 video with x264 or x265, without frames that need later ones.

    Args:
        sequence: 8 or 10 bits, sides that are even.
        target: MP4 file.
        codec: ``"x264"`` or ``"x265"``.
        crf: constant rate factor, 0 (best) to 51.
        preset, tune: of the encoder; ``tune`` is one of :data:`TUNES`.
        threads: of the encoder.

    Raises:
        ImportError: PyAV is not installed.
        ValueError: the sequence is of another kind, or an option is unknown.
    """
    av = pyav()
    if codec not in _ENCODERS:
        raise ValueError(f"codec must be one of {list(_ENCODERS)}, got {codec!r}")
    if tune not in TUNES:
        raise ValueError(f"tune must be one of {list(TUNES)}, got {tune!r}")
    if not 0 <= crf <= 51:
        raise ValueError(f"crf must be in 0 ... 51, got {crf}")
    if sequence.format is not VideoFormat.YUV420 or sequence.bitdepth not in _PIXELS:
        raise ValueError(
            f"{codec} takes yuv420 of {' or '.join(map(str, _PIXELS))} bits, got "
            f"{sequence.format.value} of {sequence.bitdepth} bits"
        )
    if sequence.width % 2 or sequence.height % 2:
        raise ValueError(f"{codec} takes even sides only, got {sequence.width} x {sequence.height}")
    options = {"crf": str(crf), "preset": preset, "tune": tune}
    options |= {"bf": "0"} if codec == "x264" else {"x265-params": "bframes=0:log-level=error"}
    with (
        atomic_write(target) as unfinished,
        av.open(str(unfinished), "w", format="mp4") as container,
    ):
        rate = Fraction(sequence.framerate or 30).limit_denominator(10**6)
        stream = container.add_stream(_ENCODERS[codec], rate=rate, options=options)
        stream.width, stream.height = sequence.width, sequence.height
        stream.pix_fmt = _PIXELS[sequence.bitdepth]
        stream.codec_context.thread_count = threads
        for number, record in enumerate(sequence):
            frame = _to_av_frame(av, record, sequence)
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _to_av_frame(av: ModuleType, record: np.void, sequence: RawVideoSequence) -> Any:
    frame = av.VideoFrame(sequence.width, sequence.height, _PIXELS[sequence.bitdepth])
    for plane, name in zip(frame.planes, "yuv"):
        values = record[name].astype(record[name].dtype.newbyteorder("<"))
        rows = np.zeros((plane.height, plane.line_size), np.uint8)
        rows[:, : values.nbytes // plane.height] = values.view(np.uint8).reshape(plane.height, -1)
        plane.update(rows)
    return frame


def decode_mp4(
    source: str | os.PathLike[str],
    sequence: RawVideoSequence,
    write: Callable[[bytes], Any],
) -> int:
    """Decode what :func:`encode_mp4` wrote.

    Args:
        source: MP4 file.
        sequence: what it was made of.
        write: called with each frame as a raw video file holds it.

    Returns:
        Number of frames.

    Raises:
        ImportError: PyAV is not installed.
        ValueError: the file cannot be decoded, or holds video of another size or format.
    """
    av = pyav()
    count = 0
    try:
        with av.open(os.fspath(source)) as container:
            for frame in container.decode(video=0):
                found = (frame.width, frame.height, frame.format.name)
                if found != (sequence.width, sequence.height, _PIXELS[sequence.bitdepth]):
                    raise ValueError(f"{source} holds {found[2]} of {found[0]} x {found[1]}")
                for plane in frame.planes:
                    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
                    used = plane.width * (1 if sequence.bitdepth == 8 else 2)
                    values = rows[: plane.height, :used]
                    if sequence.dtype["y"].base.byteorder == ">":
                        values = values.view("<u2").astype(">u2")
                    write(values.tobytes())
                count += 1
    except av.FFmpegError as error:
        raise ValueError(f"{source} cannot be decoded: {error}") from error
    return count
