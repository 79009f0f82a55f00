# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Raw planar video: files without a header, described by their names, read as memory maps."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from enum import Enum
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

__all__ = [
    "RawVideoSequence",
    "VideoFormat",
    "bitdepth_to_dtype",
    "file_extensions",
    "framerate_to_fraction",
    "get_num_frms",
    "get_raw_video_file_info",
    "make_dtype",
    "subsampling",
    "video_formats",
]


class VideoFormat(Enum):
    """Planes of a frame, one after the other in the file: chroma subsampling, or planar RGB."""

    YUV400 = "yuv400"
    YUV420 = "yuv420"
    YUV422 = "yuv422"
    YUV444 = "yuv444"
    RGB = "rgb"


# Names that people write; a file name may have them in lower or upper case.
video_formats = {
    "yuv400": VideoFormat.YUV400,
    "yuv420": VideoFormat.YUV420,
    "420": VideoFormat.YUV420,
    "p420": VideoFormat.YUV420,
    "i420": VideoFormat.YUV420,
    "yuv422": VideoFormat.YUV422,
    "422": VideoFormat.YUV422,
    "p422": VideoFormat.YUV422,
    "i422": VideoFormat.YUV422,
    "y42B": VideoFormat.YUV422,
    "yuv444": VideoFormat.YUV444,
    "444": VideoFormat.YUV444,
    "p444": VideoFormat.YUV444,
    "y444": VideoFormat.YUV444,
    "rgb": VideoFormat.RGB,
}

# Rates of NTSC, which names round.
framerate_to_fraction = {
    "23.98": Fraction(24000, 1001),
    "23.976": Fraction(24000, 1001),
    "29.97": Fraction(30000, 1001),
    "59.94": Fraction(60000, 1001),
}

file_extensions = {"yuv", "rgb", "raw"}

# (horizontal, vertical) luma samples per chroma sample; 0: no chroma.
subsampling = {
    VideoFormat.YUV400: (0, 0),
    VideoFormat.YUV420: (2, 2),
    VideoFormat.YUV422: (2, 1),
    VideoFormat.YUV444: (1, 1),
}

bitdepth_to_dtype = {
    8: np.uint8,
    10: np.uint16,
    12: np.uint16,
    14: np.uint16,
    16: np.uint16,
}

_KEYS = "|".join(sorted((key.lower() for key in video_formats), key=len, reverse=True))
_DEPTHS = "|".join(map(str, bitdepth_to_dtype))
_SIZE = re.compile(r"(?<![a-z0-9])(\d+)x(\d+)(?![a-z0-9])")
_RATE = re.compile(r"(?<![\d.])(\d+(?:\.\d+)?)(?:hz|fps)(?![a-z])")
_DEPTH = re.compile(r"(?<!\d)(\d+)bit")
# As in yuv420p10le, P420, I420_10LE. "-": in P420_0-10 the numbers are frames.
_FORMAT = re.compile(rf"(?<![a-z0-9])({_KEYS})(?:[p_]?({_DEPTHS})|p)?(le|be)?(?![a-z0-9-])")


def _as_format(format: VideoFormat | str) -> VideoFormat:
    if isinstance(format, VideoFormat):
        return format
    known = {key.lower(): value for key, value in video_formats.items()}
    if not isinstance(format, str) or format.lower() not in known:
        raise ValueError(f"format must be a VideoFormat or in {list(known)}, got {format!r}")
    return known[format.lower()]


def make_dtype(format: VideoFormat | str, value_type: Any, width: int, height: int) -> np.dtype:
    """Type of one frame as a record.

    Args:
        format: planes of the frame.
        value_type: type of a sample, such as ``np.uint8``.
        width, height: size of the frame in pixels; chroma of odd sizes is rounded up.

    Returns:
        A structured type with the fields ``y``, ``u``, ``v`` (for RGB ``r``, ``g``, ``b``), each
        of shape (height, width) of its plane; chroma of 4:0:0 has no samples.

    Raises:
        ValueError: unknown format, or a size that is not positive.
    """
    format = _as_format(format)
    if width < 1 or height < 1:
        raise ValueError(f"width and height must be positive, got {width} x {height}")
    if format is VideoFormat.RGB:
        return np.dtype([(name, value_type, (height, width)) for name in "rgb"])
    horizontal, vertical = subsampling[format]
    chroma = (_chroma_side(height, vertical), _chroma_side(width, horizontal))
    return np.dtype(
        [
            ("y", value_type, (height, width)),
            ("u", value_type, chroma),
            ("v", value_type, chroma),
        ]
    )


def _chroma_side(side: int, factor: int) -> int:
    return (side + factor - 1) // factor if factor else 0


def get_num_frms(
    file_size: int, width: int, height: int, video_format: VideoFormat | str, dtype: Any
) -> int:
    """Number of whole frames in a file.

    Args:
        file_size: bytes.
        width, height: size of a frame.
        video_format: its planes.
        dtype: type of a sample, such as ``np.uint8``.
    """
    return file_size // make_dtype(video_format, dtype, width, height).itemsize


def get_raw_video_file_info(filename: str | os.PathLike[str]) -> dict[str, Any]:
    """What the name of a raw video file tells about it.

    It searches for a size (``832x480``), a frame rate (``30Hz``, ``23.976fps``), a bit depth
    (``10bit``), a format (a key of :data:`video_formats`, or as in ``yuv420p10le``), and the
    suffix. Upper and lower case are the same; where a name has something twice, the first counts.
    Names of folders are not looked at.

    Args:
        filename: name or path; the file need not exist.

    Returns:
        ``width``, ``height``, ``bitdepth`` (8 if there is none), ``framerate`` (an exact
        fraction), ``format`` (:class:`VideoFormat`), ``chroma_sub`` (always ``None``),
        ``endianness`` (``"le"``, ``"be"`` or ``None``) and ``extension``; what the name does not
        tell is not in there. Empty if it tells nothing.

    Raises:
        ValueError: the name has two different bit depths.
    """
    info, depths = _read_name(filename)
    return {**info, "bitdepth": _only_depth(depths, filename)} if info else {}


def _read_name(filename: str | os.PathLike[str]) -> tuple[dict[str, Any], set[int]]:
    """What a name tells, and all bit depths in it; an empty dictionary if it tells nothing."""
    path = Path(Path(filename).name.lower())
    extension = path.suffix[1:]
    name = path.stem if extension in file_extensions else path.name
    info: dict[str, Any] = {}
    depths = {int(depth) for depth in _DEPTH.findall(name)}
    endianness = None
    if size := _SIZE.search(name):
        info.update(width=int(size[1]), height=int(size[2]))
    if rate := _RATE.search(name):
        info["framerate"] = framerate_to_fraction.get(rate[1]) or Fraction(rate[1])
    if format := _FORMAT.search(name):
        info["format"] = _as_format(format[1])
        depths |= {int(format[2])} if format[2] else set()
        endianness = format[3]
    if extension in file_extensions:
        info["extension"] = extension
    if info or depths:
        info.update(chroma_sub=None, endianness=endianness)
    return info, depths


def _only_depth(depths: set[int], filename: str | os.PathLike[str]) -> int:
    if len(depths) > 1:
        raise ValueError(
            f"{os.fspath(filename)!r} names the bit depths {sorted(depths)}, there can be only one"
        )
    return next(iter(depths), 8)


def _map(filename: str | os.PathLike[str]) -> np.ndarray:
    # An empty file cannot be mapped.
    if Path(filename).stat().st_size == 0:
        return np.empty(0, np.uint8)
    return np.memmap(filename, dtype=np.uint8, mode="r")


class RawVideoSequence(Sequence[np.ndarray]):
    """Frames of a raw video, read from a memory map when they are asked for.

    ``sequence[i]`` is a record with the planes ``y``, ``u``, ``v`` (for RGB ``r``, ``g``, ``b``),
    arrays (height, width) of code values; a slice is an array of records. Nothing is copied.

    Args:
        mmap: the bytes of the file, a one-dimensional uint8 array.
        width, height: size of a frame.
        bitdepth: bits of a sample: 8, or 10, 12, 14 or 16 in two bytes.
        format: planes of a frame.
        framerate: frames per second, if known.
        endianness: byte order of samples of two bytes, ``"le"`` or ``"be"``; ``None`` for that of
            the machine.

    Attributes:
        width, height, bitdepth, format, framerate, endianness: as given.
        dtype: type of a frame.
        data: the frames, an array of records.
        total_frms: number of frames.

    Raises:
        ValueError: unknown format, depth or byte order, or no whole number of frames.
    """

    def __init__(
        self,
        mmap: np.ndarray,
        width: int,
        height: int,
        bitdepth: int,
        format: VideoFormat | str,
        framerate: Fraction | float | None,
        endianness: str | None = None,
    ) -> None:
        if bitdepth not in bitdepth_to_dtype:
            raise ValueError(f"bitdepth must be one of {list(bitdepth_to_dtype)}, got {bitdepth!r}")
        if endianness not in (None, "le", "be"):
            raise ValueError(f"endianness must be 'le', 'be' or None, got {endianness!r}")
        self.width = width
        self.height = height
        self.bitdepth = bitdepth
        self.framerate = framerate
        self.format = _as_format(format)
        self.endianness = endianness
        order = {"le": "<", "be": ">", None: "="}[endianness]
        value_type = np.dtype(bitdepth_to_dtype[bitdepth]).newbyteorder(order)
        self.dtype = make_dtype(self.format, value_type, width, height)
        if mmap.nbytes % self.dtype.itemsize:
            raise ValueError(
                f"the file has {mmap.nbytes} bytes, no multiple of the {self.dtype.itemsize} of a "
                f"frame of {width} x {height}, {self.format.value}, {bitdepth} bit: it is cut off, "
                "or of another size or format"
            )
        self.data = mmap.view(self.dtype)
        self.total_frms = len(self.data)

    def __getitem__(self, index: Any) -> Any:
        """A frame as a record, or several as an array of records."""
        return self._frames()[index]

    def __len__(self) -> int:
        return len(self._frames())

    def _frames(self) -> np.ndarray:
        try:
            return self.data
        except AttributeError:
            raise ValueError("the sequence was closed") from None

    def close(self) -> None:
        """Let go of the file. Frames that are still held keep it open."""
        self.__dict__.pop("data", None)

    @classmethod
    def new_like(
        cls, sequence: RawVideoSequence, filename: str | os.PathLike[str]
    ) -> RawVideoSequence:
        """Open another file with the size, format, depth and rate of ``sequence``."""
        return cls(
            _map(filename),
            sequence.width,
            sequence.height,
            sequence.bitdepth,
            sequence.format,
            sequence.framerate,
            sequence.endianness,
        )

    @classmethod
    def from_file(
        cls,
        filename: str | os.PathLike[str],
        width: int | None = None,
        height: int | None = None,
        bitdepth: int | None = None,
        format: VideoFormat | str | None = None,
        framerate: Fraction | float | None = None,
        endianness: str | None = None,
    ) -> RawVideoSequence:
        """Open a file.

        Args:
            filename: path of the file.
            width, height, bitdepth, format, framerate, endianness: as in the class; what is not
                given is taken from the name, see :func:`get_raw_video_file_info`; 8 bits and the
                byte order of the machine if it is not there either.

        Raises:
            FileNotFoundError: there is no such file.
            RuntimeError: size or format are neither given nor in the name.
            ValueError: as in the class, or the name contradicts itself.
        """
        given = {
            "width": width,
            "height": height,
            "bitdepth": bitdepth,
            "format": format,
            "framerate": framerate,
            "endianness": endianness,
        }
        known, depths = _read_name(filename)
        known.update({key: value for key, value in given.items() if value is not None})
        missing = [key for key in ("width", "height", "format") if key not in known]
        if missing:
            raise RuntimeError(
                f"the name of {os.fspath(filename)!r} does not tell {', '.join(missing)}: give "
                "them, or use a name such as clip_832x480_30Hz_8bit_yuv420.yuv"
            )
        if "bitdepth" not in known:
            known["bitdepth"] = _only_depth(depths, filename)
        return cls(
            _map(filename),
            known["width"],
            known["height"],
            known["bitdepth"],
            known["format"],
            known.get("framerate"),
            known.get("endianness"),
        )
