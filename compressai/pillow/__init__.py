# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Coded images in every program that uses Pillow: importing this teaches it ``.cai`` files.

::

    import compressai.pillow
    from PIL import Image

    Image.open("photo.png").save("photo.cai", quality=3)
    Image.open("photo.cai").show()

Pillow has no way of finding plugins that are not part of it, so that somebody has to import this
once in the process. From then on ``Image.open``, ``Image.save``, ``Image.registered_extensions``
and the like know the format, whose name is ``CAI``.

**Opening** reads the file and checks it; size, mode and ``info`` are there without decoding, which
is done when pixels are asked for. ``info`` has ``model``, ``quality``, ``metric``,
``random_weights``, and ``icc_profile`` and ``exif`` if the file keeps them. Weights are those of
the zoo, or of a checkpoint that was named to :func:`use_checkpoint`.

**Saving** takes these keywords of ``Image.save``:

- ``quality``, ``model``, ``metric``: weights of the zoo, as for
  :func:`compressai.model_choice.choose_model`; default:
  :data:`~compressai.model_choice.DEFAULT_MODEL` in quality 3. There must be trained ones: images
  are not coded with random weights.
- ``checkpoint``: file with weights in place of the zoo's; with one of variable rate, ``quality`` is
  its level.
- ``tile``, ``sync_safe``: as for :func:`compressai.bitstream.encode_image`.
- ``keep_metadata``: keep EXIF and colour profile, as for
  :func:`compressai.bitstream.read_image`.
- ``exif``, ``icc_profile``: keep these instead.

**Errors** are those that Pillow's users expect. Opening raises ``UnidentifiedImageError``, with the
reason; reading pixels and saving raise ``OSError``, caused by the error of the library, and
``ValueError`` for keywords that do not fit. With ``ImageFile.LOAD_TRUNCATED_IMAGES``, what is left
of damaged files is decoded. Images larger than ``Image.MAX_IMAGE_PIXELS`` cause Pillow's
``DecompressionBombWarning`` or ``DecompressionBombError``; none are coded or decoded above
:data:`compressai.bitstream.MAX_PIXELS`.

All of this may be done by several threads at the same time, which share the cores: a lone image is
coded by all of them, of many images each by one, and further ones wait (:mod:`compressai.cores`).
Models are kept between calls.
"""

from __future__ import annotations

from compressai.pillow.models import configure, use_checkpoint
from compressai.pillow.plugin import CaiImageFile, register

__all__ = ["CaiImageFile", "configure", "register", "use_checkpoint"]

register()
