# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Finding image files, asking them for their size, and reading them upright and whole."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from compressai._files import open_regular, read_up_to
from compressai._images.colours import WHITE, RefusedImageError, to_rgb, to_rgb_image
from compressai._images.icons import icon_size
from compressai._images.limits import MAX_PIXELS
from compressai._images.losses import notes_on_losses, sample_limit
from compressai._images.transparency import Transparency

__all__ = [
    "Samples",
    "buffer_image",
    "check_pixels",
    "find_images",
    "image_suffixes",
    "oriented_size",
    "read_rgb",
    "read_samples",
    "read_size",
]

# Formats that Pillow names and cannot decode, that other programs decode for it, or that are no
# images. No file is taken for one of them, whatever its name.
_NOT_OPENED = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "PDF", "WMF"})
_NOT_IMAGES = _NOT_OPENED | {"CAI"}
# What is lost with EXIF: description, maker, model, software, date, artist, copyright, and the
# tables of camera settings and position. Other entries tell how the pixels are laid out.
_EXIF_CONTENT = frozenset({0x10E, 0x10F, 0x110, 0x131, 0x132, 0x13B, 0x8298, 0x8769, 0x8825})
# Of a stream: most headers are within the first bytes, metadata may push them behind. Then 16-bit
# colours with transparency, not compressed, and metadata and frames that are not read.
_FIRST, _BYTES_A_PIXEL, _BYTES_OF_EXTRAS = 2**16, 8, 2**28
# What Pillow's plugins are shown of a file.
_PREFIX = 16
_ORIENTATION, _SIDEWAYS = 0x0112, (5, 6, 7, 8)
# What the system says when a damaged file makes a program look for a place that does not exist.
_ERRORS_OF_DAMAGE = frozenset({errno.EINVAL, errno.EOVERFLOW, errno.ERANGE, errno.EFBIG})


def image_suffixes() -> list[str]:
    """Suffixes, in lower case and with the dot, of image files that can be read."""
    known = Image.registered_extensions()
    return sorted(s for s, kind in known.items() if kind in Image.OPEN and kind not in _NOT_IMAGES)


def find_images(folder: str | os.PathLike[str]) -> list[Path]:
    """The image files of a folder, not of those below it, in order of their names.

    Regular files count whose suffix is that of an image; those with another suffix or none count
    if Pillow knows what they are. Hidden files, whose names begin with a dot, do not count.

    Args:
        folder: the folder.

    Raises:
        OSError: it cannot be read.
    """
    suffixes = frozenset(image_suffixes())
    return sorted(
        path
        for path in Path(folder).iterdir()
        if not path.name.startswith(".")
        and path.is_file()
        and (path.suffix.lower() in suffixes or _is_known(path))
    )


def _is_known(path: Path) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with open_regular(path) as file:
                if icon_size(file) is not None:
                    return True
                with Image.open(file, formats=_formats()):
                    return True
    except UnidentifiedImageError:
        return False
    # Damaged or forbidden: it is an image that is to be complained of when it is read.
    except Exception:
        return True


def _formats() -> list[str]:
    Image.init()
    return [kind for kind in Image.ID if kind not in _NOT_OPENED]


def check_pixels(width: int, height: int, max_pixels: int | None) -> None:
    """Refuse an image before its pixels take memory.

    Raises:
        RefusedImageError: it has more pixels than ``max_pixels``.
    """
    if max_pixels is not None and width * height > max_pixels:
        raise RefusedImageError(
            f"the image has {width} x {height} = {width * height} pixels, more than the limit of "
            f"{max_pixels}: raise max_pixels if there is enough memory"
        )


def read_size(source: str | Path | BinaryIO) -> tuple[int, int]:
    """Width and height of an image file, from its header, before it is turned upright.

    Raises:
        OSError, ValueError: as :func:`read_samples`.
    """
    with _quiet() as _, _opened(source) as image:
        return image.size


def buffer_image(stream: BinaryIO, max_pixels: int | None = MAX_PIXELS) -> BinaryIO:
    """What comes from a pipe or a server, if it begins like an image, as a file that can seek.

    It is read no further than its header allows, so that neither an endless stream nor a large file
    of another kind takes memory.

    Args:
        stream: binary stream, at the start of the file.
        max_pixels: larger images are refused, by their header; ``None``: there is no limit, nor one
            of bytes.

    Returns:
        A file in memory, at its start.

    Raises:
        OSError: the stream cannot be read.
        ValueError: it gives no image, too large a one, or more bytes than such an image can have.
    """
    content = io.BytesIO(read_up_to(stream, _FIRST))
    limit, size = _most_bytes(max_pixels), None
    while True:
        length = content.seek(0, io.SEEK_END)
        if size is None:
            try:
                size = read_size(content)
            except RefusedImageError:
                raise
            except ValueError:
                # What is missing may still come, but not in a file of another kind.
                if not _may_be_image(content):
                    raise
            else:
                check_pixels(*size, max_pixels)
                limit = None if limit is None else _most_bytes(size[0] * size[1])
            content.seek(length)
        if limit is not None and length > limit:
            of = f"of {size[0]} x {size[1]}" if size else f"with {max_pixels} pixels at most"
            raise ValueError(f"the stream has more than {limit} bytes, too many for an image {of}")
        more = max(length, _FIRST)
        part = read_up_to(stream, more if limit is None else min(more, limit + 1 - length))
        if not part:
            content.seek(0)
            return content
        content.write(part)


def _most_bytes(pixels: int | None) -> int | None:
    return None if pixels is None else _BYTES_A_PIXEL * pixels + _BYTES_OF_EXTRAS


def oriented_size(source: str | Path, image_fits: tuple[int, int] | None = None) -> tuple[int, int]:
    """Width and height of an image file when it stands upright, from its header.

    Args:
        source: the file.
        image_fits: width and height; where they fit the image either way or not at all, the
            orientation, which may be costly to find, is not asked for.

    Raises:
        OSError, ValueError: as :func:`read_samples`.
    """
    with _quiet() as _, _opened(source) as image:
        width, height = image.size
        if image_fits is not None:
            fits = width >= image_fits[0] and height >= image_fits[1]
            if fits == (height >= image_fits[0] and width >= image_fits[1]):
                return width, height
        # Pillow turns TIFF files by itself.
        turned = image.format != "TIFF" and image.getexif().get(_ORIENTATION) in _SIDEWAYS
        return (height, width) if turned else (width, height)


@dataclass
class Samples:
    """An image file as it comes to a network.

    Attributes:
        pixels: float32 ``(3, H, W)`` in [0, 1].
        alpha: 8-bit plane, or ``None`` if every pixel is opaque.
        grey: whether there are no colours.
        notes: sentences on what is lost.
        icc: profile that says what the colours mean; empty for sRGB.
        exif: metadata to keep; empty if there are none.
        mode: colour mode of the file, as Pillow calls it.
    """

    pixels: np.ndarray
    alpha: Image.Image | None
    grey: bool
    notes: list[str]
    icc: bytes
    exif: bytes
    mode: str


def read_samples(
    source: str | Path | BinaryIO | Image.Image,
    *,
    keep_metadata: bool = False,
    max_pixels: int | None = MAX_PIXELS,
) -> Samples:
    """The first frame of an image, upright, in sRGB.

    Args:
        source: a file, or an image of Pillow. A binary file that cannot seek is read by
            :func:`buffer_image`.
        keep_metadata: keep EXIF, and the colours as they are with their profile.
        max_pixels: larger images are refused, by their header; ``None``: there is no limit.

    Raises:
        FileNotFoundError, IsADirectoryError, OSError: the system does not let the file be read.
        ValueError: it is no regular file, no image, damaged, or too large.
    """
    if isinstance(source, Image.Image):
        return _samples(source, keep_metadata, max_pixels)
    # Pillow warns of damaged metadata, and at half of the size that it refuses.
    with _quiet() as caught, _opened(source, max_pixels) as image:
        samples = _samples(image, keep_metadata, max_pixels)
        samples.notes += [str(w.message) for w in caught if issubclass(w.category, UserWarning)]
    return samples


def _samples(image: Image.Image, keep_metadata: bool, max_pixels: int | None) -> Samples:
    check_pixels(*image.size, max_pixels)
    mode = image.mode
    image, notes = _upright(image, keep_metadata, max_pixels)
    icc = _profile_to_keep(image) if keep_metadata else b""
    if icc:
        del image.info["icc_profile"]
    exif = image.getexif().tobytes() if keep_metadata and len(image.getexif()) else b""
    return Samples(*to_rgb(image, notes), notes, icc, exif, mode)


def _profile_to_keep(image: Image.Image) -> bytes:
    """The profile, if it is one of the very samples that are coded."""
    profile = image.info.get("icc_profile") or b""
    kind = {b"RGB ": ("RGB", "RGBA"), b"GRAY": ("L", "LA")}.get(profile[16:20], ())
    return profile if image.mode in kind and profile[36:40] == b"acsp" else b""


def _upright(
    image: Image.Image, keep_metadata: bool, max_pixels: int | None
) -> tuple[Image.Image, list[str]]:
    """The first frame with all pixels in memory and its orientation applied, and notes."""
    notes = notes_on_losses(image)
    transparency = Transparency(image)
    deep = sample_limit(image)
    image.load()
    check_pixels(*image.size, max_pixels)  # icons may turn out to be larger than they say
    if (not keep_metadata and _EXIF_CONTENT & set(image.getexif())) or "xmp" in image.info:
        lost = "XMP" if keep_metadata else "EXIF, XMP"
        notes.append(f"metadata ({lost}) is not kept")
    image = ImageOps.exif_transpose(transparency.apply(image))
    if deep is not None:
        image.info[WHITE] = deep
    return image, notes


def read_rgb(source: str | Path) -> Image.Image:
    """An image file as 8-bit RGB, upright and in sRGB, without its transparency.

    The samples are those that :func:`~compressai.bitstream.read_image` gives, rounded.

    Raises:
        OSError, ValueError: as :func:`read_samples`; with the name of the file.
    """
    with _opened(source) as image:
        upright, _ = _upright(image, True, None)
        return to_rgb_image(upright, [])


@contextlib.contextmanager
def _quiet() -> Iterator[list[warnings.WarningMessage]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught


@contextlib.contextmanager
def _opened(
    source: str | Path | BinaryIO, max_pixels: int | None = MAX_PIXELS
) -> Iterator[ImageFile.ImageFile]:
    """An image file, not loaded; whatever goes wrong with it inside becomes an error of ours."""
    is_path = isinstance(source, (str, os.PathLike))
    if not is_path and not source.seekable():
        source = buffer_image(source, max_pixels)
    name = str(source) if is_path else getattr(source, "name", "the image")
    # What the system says of the path itself is nothing that the content can be blamed for.
    opened = open_regular(source) if is_path else contextlib.nullcontext(source)
    with opened as file:
        try:
            # Pillow decodes icons while it opens them, and whatever size is in them.
            if (size := icon_size(file)) is not None:
                check_pixels(*size, max_pixels)
            with Image.open(file, formats=_formats()) as image:
                yield image
        except UnidentifiedImageError as error:
            raise ValueError(_unknown(name, file)) from error
        except MemoryError:
            raise
        except OSError as error:
            if error.errno is not None and error.errno not in _ERRORS_OF_DAMAGE:
                error.filename = error.filename or name
                raise
            raise ValueError(f"{name} is damaged: {error}") from error
        except Image.DecompressionBombError as error:
            raise RefusedImageError(f"{name} is too large: {error}") from error
        except RefusedImageError as error:
            raise RefusedImageError(f"{name}: {error}") from error
        # Pillow fails in as many ways as a damaged or hostile file can be written.
        except Exception as error:
            raise ValueError(f"{name} is damaged: {error}") from error


def _may_be_image(file: IO[bytes]) -> bool:
    """Whether a file that can seek begins like one of a kind that Pillow knows."""
    file.seek(0)
    prefix = file.read(_PREFIX)
    known = (Image.OPEN[kind][1] for kind in _formats())
    # Shorter ones are not what these functions expect.
    return len(prefix) == _PREFIX and any(
        accept(prefix) is True for accept in known if accept is not None
    )


def _unknown(name: str, file: IO[bytes]) -> str:
    """What to say of a file that Pillow cannot open."""
    file.seek(0)
    if not file.read(1):
        return f"{name} is empty"
    if _may_be_image(file):
        return f"{name} is damaged, or of a variety that Pillow cannot read"
    return f"{name} is no image, or of a kind that Pillow cannot read"
