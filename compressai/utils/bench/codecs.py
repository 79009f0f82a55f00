# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The codecs of ``bench`` and ``find_close``, with the arguments that each has.

They are those of :mod:`compressai.evaluation`, under the names and with the settings that
CompressAI has them. JPEG 2000 comes from Pillow here, as its codec needs no program.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import PIL
from PIL import Image

from compressai.evaluation import Coded, ImageCodec, compute_metrics, find_codec
from compressai.evaluation import PillowCodec as EvaluationPillowCodec
from compressai.evaluation.external import (
    AomCodec,
    BpgCodec,
    CommandCodec,
    HmCodec,
    VtmCodec,
    run_program,
)
from compressai.evaluation.image_files import SUFFIXES as IMG_EXTENSIONS

__all__ = [
    "AV1",
    "AVIF",
    "BPG",
    "HM",
    "IMG_EXTENSIONS",
    "JPEG",
    "JPEG2000",
    "JXL",
    "TFCI",
    "VTM",
    "BinaryCodec",
    "Codec",
    "PillowCodec",
    "WebP",
    "compute_metrics",
    "filesize",
    "read_image",
    "run_command",
]


def filesize(filepath: str | Path) -> int:
    """Length of a file in bytes.

    Raises:
        ValueError: it is no file.
    """
    if not Path(filepath).is_file():
        raise ValueError(f"{filepath} is no file")
    return Path(filepath).stat().st_size


def read_image(filepath: str | Path, mode: str = "RGB") -> Image.Image:
    """An image of Pillow, converted to ``mode``.

    Raises:
        ValueError: it is no file.
    """
    if not Path(filepath).is_file():
        raise ValueError(f"{filepath} is no file")
    with Image.open(filepath) as image:
        return image.convert(mode)


def run_command(cmd: Sequence[str], ignore_returncodes: Sequence[int] | None = None) -> str | bytes:
    """What a command prints on its standard output, as text.

    If it fails, its output is printed and the process ends with status 1, unless the status is to
    be ignored: then the output is returned as bytes.
    """
    run = subprocess.run(cmd, stdout=subprocess.PIPE, check=False)
    if run.returncode == 0:
        return run.stdout.decode("ascii", errors="replace")
    if ignore_returncodes is not None and run.returncode in ignore_returncodes:
        return run.stdout
    print(run.stdout.decode("utf-8", errors="replace"))
    sys.exit(1)


class Codec(ABC):
    """A codec that is told its settings by the command line.

    Args:
        args: what the parser of :meth:`setup_args` made.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self._codec = self._make(args)

    @classmethod
    def setup_args(cls, parser: argparse.ArgumentParser) -> None:
        """Add the codec's own arguments to its parser."""
        del parser  # Most have none.

    @abstractmethod
    def _make(self, args: argparse.Namespace) -> ImageCodec:
        """The codec that does the work."""

    @property
    def name(self) -> str:
        """What results call the codec."""
        return self._codec.name

    @property
    def description(self) -> str:
        """The implementation, with its version."""
        return self._codec.description

    def _load_img(self, img: str | Path | Image.Image) -> Image.Image:
        return img.convert("RGB") if isinstance(img, Image.Image) else read_image(img)

    def _run_impl(
        self, img: str | Path | Image.Image, quality: float
    ) -> tuple[dict[str, Any], Image.Image]:
        image = self._load_img(img)
        coded: Coded = self._codec.code(image, quality)
        width, height = image.size
        info = {
            "bpp": 8 * len(coded.content) / (width * height),
            "encoding_time": coded.encode_seconds,
            "decoding_time": coded.decode_seconds,
        }
        return info, coded.decoded

    def run(
        self,
        in_filepath: str | Path | Image.Image,
        quality: float,
        metrics: Sequence[str] | None = None,
        return_rec: bool = False,
    ) -> Any:
        """Code an image and measure.

        Args:
            in_filepath: the image.
            quality: on the codec's scale.
            metrics: see :func:`compute_metrics`.
            return_rec: also return the decoded image.

        Returns:
            ``bpp``, ``encoding_time`` and ``decoding_time`` (seconds), and the metrics; or these
            and the image.

        Raises:
            ValueError: there is no such quality.
            FileNotFoundError, RuntimeError: the codec's program is missing or fails.
        """
        info, decoded = self._run_impl(in_filepath, quality)
        info |= compute_metrics(self._load_img(in_filepath), decoded, metrics)
        return (info, decoded) if return_rec else info


class PillowCodec(Codec):
    """A codec of Pillow, at the quality and otherwise as Pillow does it by default."""

    fmt: str | None = None
    _name: str

    def _make(self, args: argparse.Namespace) -> ImageCodec:
        return EvaluationPillowCodec(self.fmt, lambda quality: {"quality": quality})

    @property
    def name(self) -> str:
        return self._name

    @property
    def description(self) -> str:
        return f"{self.name}. Pillow version {PIL.__version__}"


class JPEG(PillowCodec):
    """JPEG, quality 0 to 100."""

    fmt = "JPEG"
    _name = "JPEG"


class WebP(PillowCodec):
    """WebP, quality 0 to 100."""

    fmt = "WEBP"
    _name = "WebP"


class JPEG2000(PillowCodec):
    """JPEG 2000; the quality is the PSNR in dB that OpenJPEG aims at, 1 to 100."""

    _name = "JPEG2000"

    def _make(self, args: argparse.Namespace) -> ImageCodec:
        return find_codec("jpeg2000")


class AVIF(PillowCodec):
    """AV1 still images, quality 0 to 100."""

    fmt = "AVIF"
    _name = "AVIF"


class JXL(Codec):
    """JPEG XL, quality 0 to 100; needs the extra ``jxl``."""

    def _make(self, args: argparse.Namespace) -> ImageCodec:
        return find_codec("jxl")

    @property
    def name(self) -> str:
        return "JXL"


class BinaryCodec(Codec):
    """A codec of programs that take and give PNG files."""


class BPG(BinaryCodec):
    """BPG, quality 0 to 51, lower is better."""

    @classmethod
    def setup_args(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("-m", choices=["420", "444"], default="444", help="subsampling")
        parser.add_argument("-b", choices=["8", "10"], default="8", help="bit depth")
        parser.add_argument("-c", choices=["rgb", "ycbcr"], default="ycbcr", help="colour space")
        parser.add_argument("-e", choices=["jctvc", "x265"], default="x265", help="HEVC encoder")
        parser.add_argument("--encoder-path", default="bpgenc", help="(default: %(default)s)")
        parser.add_argument("--decoder-path", default="bpgdec", help="(default: %(default)s)")

    def _make(self, args: argparse.Namespace) -> ImageCodec:
        self._encoder_path = args.encoder_path
        return BpgCodec(args.m, args.b, args.c, args.e, args.encoder_path, args.decoder_path)

    @property
    def description(self) -> str:
        return f"BPG. BPG version {_bpg_version(self._encoder_path)}"


def _bpg_version(encoder_path: str) -> str:
    """As its help says it on the first line; asking for help is status 1 to it."""
    words = run_program([encoder_path, "-h"], ok=(0, 1)).splitlines()[:1]
    return words[0].split()[-1] if words and words[0].split() else "unknown"


class TFCI(BinaryCodec):
    """Models of TensorFlow Compression through its script ``tfci.py``, quality 1 to 8."""

    _models = ("bmshj2018-factorized-mse", "bmshj2018-hyperprior-mse", "mbt2018-mean-mse")

    @classmethod
    def setup_args(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            *("-m", "--model"), choices=cls._models, default=cls._models[0], help="model"
        )
        parser.add_argument("-p", "--path", required=True, help="the script tfci.py")

    def _make(self, args: argparse.Namespace) -> ImageCodec:
        script = [sys.executable, args.path]
        return CommandCodec(
            args.model,
            "TFCI",
            lambda source, quality, coded: [
                *(*script, "compress", f"{args.model}-{quality}"),
                *(source, coded),
            ],
            lambda coded, decoded: [*script, "decompress", coded, decoded],
            (1, 8),
            range(1, 9),
        )


class VTM(Codec):
    """The VVC reference software, quality 0 to 63, lower is better."""

    _kind = VtmCodec

    @classmethod
    def setup_args(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            *("-b", "--build-dir"), required=True, help="folder with the encoder and decoder"
        )
        parser.add_argument("-c", "--config", required=True, help="configuration file")
        parser.add_argument("--rgb", action="store_true", help="code RGB in place of YCbCr")

    def _make(self, args: argparse.Namespace) -> ImageCodec:
        return self._kind(args.build_dir, args.config, args.rgb)


class HM(VTM):
    """The HEVC reference software, quality 0 to 51, lower is better."""

    _kind = HmCodec


class AV1(Codec):
    """AV1 through libaom's programs, quality 0 to 63, lower is better."""

    @classmethod
    def setup_args(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            *("-b", "--build-dir"), required=True, help="folder with aomenc and aomdec"
        )

    def _make(self, args: argparse.Namespace) -> ImageCodec:
        return AomCodec(args.build_dir)


def get_vtm_encoder_path(build_dir: str | Path) -> str:
    """Path of VTM's encoder on this system."""
    return str(Path(build_dir) / VtmCodec.program_names()[0])


def get_vtm_decoder_path(build_dir: str | Path) -> str:
    """Path of VTM's decoder on this system."""
    return str(Path(build_dir) / VtmCodec.program_names()[1])
