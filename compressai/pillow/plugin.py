# SPDX-License-Identifier: BSD-3-Clause-Clear
"""What Pillow calls to read and write ``.cai`` files."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import IO, Any

from PIL import Image, ImageFile, UnidentifiedImageError

from compressai.bitstream import (
    BitstreamError,
    CodedImage,
    WrongWeightsError,
    decode_image,
    encode_image,
    read_content,
    read_image,
)
from compressai.bitstream.container import MAGIC
from compressai.bitstream.decoding import reductions
from compressai.bitstream.image import check_exif
from compressai.pillow.models import (
    hold_cores,
    model_to_decode,
    model_to_encode,
    remember_checkpoint,
)
from compressai.runtime import RuntimeModel

__all__ = ["EXTENSION", "FORMAT", "MIME", "CaiImageFile", "register"]

FORMAT = "CAI"
EXTENSION = ".cai"
MIME = "image/x-cai"


class CaiImageFile(ImageFile.ImageFile):
    """A coded image, as ``Image.open`` gives it; see :mod:`compressai.pillow`."""

    format = FORMAT
    format_description = "compressai, learned image compression"

    def _open(self) -> None:
        try:
            coded = CodedImage.from_bytes(
                read_content(self.fp, best_effort=ImageFile.LOAD_TRUNCATED_IMAGES),
                best_effort=ImageFile.LOAD_TRUNCATED_IMAGES,
            )
            exif = self._check_exif(coded.exif)
        except BitstreamError as error:
            raise UnidentifiedImageError(f"cannot identify image file: {error}") from error
        self._coded: CodedImage | None = coded
        self._reduce = 1
        self._size = (coded.width, coded.height)
        self._mode = coded.mode
        self.info.update(
            model=coded.model,
            quality=coded.quality,
            metric=coded.metric,
            random_weights=coded.random_weights,
        )
        for name, value in (("icc_profile", coded.icc), ("exif", exif)):
            if value:
                self.info[name] = value
        self.tile = [ImageFile._Tile("raw", (0, 0, *self._size), 0, self._mode)]

    def _check_exif(self, exif: bytes) -> bytes:
        """Refuse now what ``getexif`` would fail at later, with errors of no documented kind."""
        try:
            return check_exif(exif, tables=True)
        except BitstreamError:
            if not ImageFile.LOAD_TRUNCATED_IMAGES:
                raise
            return b""

    def draft(self, mode: str | None, size: tuple[int, int]) -> Any:
        """Choose the smallest version that is not smaller than a size, as of a JPEG file.

        It takes no less time, but of an image with tiles far less memory. ``Image.thumbnail``
        calls this.

        Args:
            mode: has no effect.
            size: width and height that are wanted at least.

        Returns:
            ``(mode, box)``, the mode and the part of the version that is the image; ``None`` if
            nothing changes.
        """
        if self._coded is None or self._reduce != 1 or min(size) < 1:
            return None
        width, height = self.size
        most = min(width // size[0], height // size[1])
        self._reduce = max((n for n in reductions(self._coded) if n <= most), default=1)
        if self._reduce == 1:
            return None
        self._size = (-(-width // self._reduce), -(-height // self._reduce))
        self.tile = [ImageFile._Tile("raw", (0, 0, *self._size), 0, self._mode)]
        return self.mode, (0, 0, width / self._reduce, height / self._reduce)

    def crop(self, box: tuple[float, float, float, float] | None = None) -> Image.Image:
        """A part of the image; as long as the whole was not decoded, no more than its tiles are.

        Args:
            box: left, upper, right and lower end, in pixels.

        Raises:
            OSError: as :meth:`load`.
        """
        coded = self._coded
        if box is not None and coded is not None and coded.tiling.count > 1 and self._reduce == 1:
            left, top, right, bottom = (round(side) for side in box)
            if 0 <= left < right <= self.width and 0 <= top < bottom <= self.height:
                region = (left, top, right - left, bottom - top)
                part = self._decoded(coded, region=region)
                part.info = dict(self.info)
                return part
        return super().crop(box)

    def load(self) -> Any:
        """Decode the image, if that was not done yet.

        Raises:
            OSError: it is damaged, or the weights that it needs are not at hand.
        """
        if self.tile and self._coded is not None:
            image = self._decoded(self._coded, reduce=self._reduce)
            if self._exclusive_fp and self.fp:
                self.fp.close()
            self.fp = io.BytesIO(image.tobytes())
            self._coded = None
        return super().load()

    def _decoded(self, coded: CodedImage, **part: Any) -> Image.Image:
        try:
            with hold_cores() as threads:
                image = decode_image(
                    model_to_decode(coded, threads=threads),
                    coded,
                    best_effort=ImageFile.LOAD_TRUNCATED_IMAGES,
                    **part,
                )
            return image.to_image()
        except (BitstreamError, ImportError, RuntimeError) as error:
            raise OSError(f"cannot decode the image: {_explain(error)}") from error

    def load_seek(self, pos: int) -> None:
        """Pillow asks for the place of the pixels; they are all that the stream holds."""


def _explain(error: Exception) -> str:
    text = str(error)
    if isinstance(error, WrongWeightsError):
        text += " (from Python: compressai.pillow.use_checkpoint)"
    return text


def _accept(prefix: bytes) -> bool:
    return prefix.startswith(MAGIC)


def _save(image: Image.Image, file: IO[bytes], name: str | bytes) -> None:
    options = image.encoderinfo
    model, checkpoint = options.get("model"), options.get("checkpoint")
    keep = bool(options.get("keep_metadata", False))
    try:
        # The image may be a coded one, which is decoded only now, with cores of its own.
        image.load()
        with hold_cores() as threads:
            chosen = model_to_encode(
                *(model, options.get("quality"), options.get("metric"), checkpoint),
                plain=options.get("sync_safe") is False,
                threads=threads,
            )
            coded = encode_image(
                chosen.net,
                read_image(
                    _with_metadata(image, options),
                    keep_metadata=keep or _is_given(options),
                    max_pixels=None,
                    as_array=isinstance(chosen.net, RuntimeModel),
                ),
                model=chosen.model,
                quality=chosen.quality,
                metric=chosen.metric,
                tile=options.get("tile", "auto"),
                sync_safe=options.get("sync_safe"),
            )
    except (ImportError, RuntimeError) as error:
        raise OSError(f"cannot code the image: {error}") from error
    if checkpoint is not None:
        remember_checkpoint(coded.fingerprint, checkpoint, model)
    file.write(coded.to_bytes())


def _is_given(options: Mapping[str, Any]) -> bool:
    return bool(options.get("exif") or options.get("icc_profile"))


def _with_metadata(image: Image.Image, options: Mapping[str, Any]) -> Image.Image:
    """The image with the metadata that were given for saving, if any were."""
    if not _is_given(options):
        return image
    image = image.copy()
    exif = options.get("exif", b"")
    image.getexif().clear()
    image.info["exif"] = exif.tobytes() if isinstance(exif, Image.Exif) else exif
    if options.get("icc_profile"):
        image.info["icc_profile"] = options["icc_profile"]
    return image


def register() -> None:
    """Make the format known to Pillow; importing :mod:`compressai.pillow` does."""
    Image.register_open(FORMAT, CaiImageFile, _accept)
    Image.register_save(FORMAT, _save)
    Image.register_extension(FORMAT, EXTENSION)
    Image.register_mime(FORMAT, MIME)
