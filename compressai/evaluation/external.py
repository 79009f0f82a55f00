# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Codecs that only programs of other projects have: BPG, VTM, HM, aomenc.

Command lines are those of CompressAI. In two things these differ from it, and figures are better
for it: samples are rounded where it cuts them off, and a program that is missing or fails says so.
"""

from __future__ import annotations

import platform
import subprocess
import tempfile
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from compressai.evaluation.codecs import Coded, ImageCodec
from compressai.transforms.functional import rgb2ycbcr, ycbcr2rgb

__all__ = [
    "AomCodec",
    "BpgCodec",
    "CommandCodec",
    "HmCodec",
    "ProgramCodec",
    "VtmCodec",
    "find_program",
    "run_program",
]


def run_program(command: Sequence[str], ok: Sequence[int] = (0,)) -> str:
    """Run a program to its end.

    Args:
        command: program and arguments.
        ok: exit statuses of success.

    Returns:
        What it printed on both streams.

    Raises:
        FileNotFoundError: there is no such program; says so in words.
        RuntimeError: it ended with another status; shows the end of what it printed.
    """
    try:
        run = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, text=True,
            errors="replace",
        )  # fmt: skip
    except (FileNotFoundError, PermissionError) as error:
        raise FileNotFoundError(
            f"the program {command[0]!r} cannot be run: install it, or say where it is"
        ) from error
    if run.returncode not in ok:
        said = run.stdout[-2000:].strip()
        raise RuntimeError(f"{' '.join(command)!r} ended with status {run.returncode}: {said}")
    return run.stdout


def find_program(folder: str | Path, name: str) -> str:
    """Path of a program in the folder where it was built.

    Raises:
        FileNotFoundError: it is not there.
    """
    path = Path(folder) / name
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: name the folder where it was built")
    return str(path)


class ProgramCodec(ImageCodec):
    """A codec of two programs, with files between them.

    Times are those of the programs, their start included.

    Attributes:
        bounds: lowest and highest quality.
        raw: whether the programs take planar 8-bit 4:4:4 samples in place of PNG files.
        rgb: whether these samples are R, G and B in place of Y'CbCr.
    """

    bounds: tuple[int, int]
    raw = False
    rgb = False

    @abstractmethod
    def encode_command(self, source: str, quality: int, coded: str, size: tuple[int, int]) -> list:
        """Program and arguments that code ``source``."""

    @abstractmethod
    def decode_command(self, coded: str, decoded: str) -> list:
        """Program and arguments that decode into ``decoded``."""

    def code(self, image: Image.Image, quality: int) -> Coded:
        low, high = self.bounds
        if not low <= quality <= high:
            raise ValueError(
                f"quality of {self.name} must be between {low} and {high}, got {quality}"
            )
        with tempfile.TemporaryDirectory(prefix="compressai-") as folder:
            suffix = "yuv" if self.raw else "png"
            names = (f"source.{suffix}", "coded.bin", f"decoded.{suffix}")
            source, coded, decoded = (str(Path(folder) / name) for name in names)
            if self.raw:
                Path(source).write_bytes(to_planes(image, self.rgb))
            else:
                image.save(source)
            start = time.perf_counter()
            run_program(self.encode_command(source, quality, coded, image.size))
            between = time.perf_counter()
            run_program(self.decode_command(coded, decoded))
            end = time.perf_counter()
            return Coded(
                Path(coded).read_bytes(),
                self._read(Path(decoded), image.size),
                between - start,
                end - between,
            )

    def _read(self, path: Path, size: tuple[int, int]) -> Image.Image:
        if self.raw:
            return from_planes(path.read_bytes(), size, self.rgb)
        with Image.open(path) as image:
            return image.convert("RGB")


def to_planes(image: Image.Image, rgb: bool) -> bytes:
    """Planar 8-bit 4:4:4 samples: R, G, B, or full-range BT.709 Y'CbCr, rounded."""
    pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
    if not rgb:
        samples = rgb2ycbcr(pixels.double() / 255) * 255
        pixels = samples.round().clamp(0, 255).to(torch.uint8)
    return pixels.contiguous().numpy().tobytes()


def from_planes(content: bytes, size: tuple[int, int], rgb: bool) -> Image.Image:
    """The image of planes, see :func:`to_planes`.

    Raises:
        RuntimeError: there are not as many samples as that.
    """
    width, height = size
    if len(content) != 3 * width * height:
        raise RuntimeError(
            f"the decoder wrote {len(content)} samples, not {3 * width * height} for an image of "
            f"{width} x {height}"
        )
    planes = torch.from_numpy(np.frombuffer(content, np.uint8).reshape(3, height, width).copy())
    if not rgb:
        pixels = ycbcr2rgb(planes.double() / 255) * 255
        planes = pixels.round().clamp(0, 255).to(torch.uint8)
    return Image.fromarray(planes.permute(1, 2, 0).contiguous().numpy())


class CommandCodec(ProgramCodec):
    """Programs that take and give PNG files.

    Args:
        name, description: see :class:`ImageCodec`.
        encode: command of ``(source, quality, coded)``.
        decode: command of ``(coded, decoded)``.
        bounds: lowest and highest quality.
        qualities: a sweep.
    """

    def __init__(
        self,
        name: str,
        description: str,
        encode: Callable[[str, int, str], list[str]],
        decode: Callable[[str, str], list[str]],
        bounds: tuple[int, int],
        qualities: Sequence[int],
    ) -> None:
        self.name, self.description = name, description
        self.bounds, self.qualities = bounds, tuple(qualities)
        self._encode, self._decode = encode, decode

    def encode_command(self, source: str, quality: int, coded: str, size: tuple[int, int]) -> list:
        return self._encode(source, quality, coded)

    def decode_command(self, coded: str, decoded: str) -> list:
        return self._decode(coded, decoded)


class BpgCodec(CommandCodec):
    """BPG through ``bpgenc`` and ``bpgdec``; quality is the quantiser, 0 to 51, lower is better.

    Args:
        subsampling: ``"444"`` or ``"420"``.
        bit_depth: ``8`` or ``10``.
        colours: ``"ycbcr"`` or ``"rgb"``.
        encoder: ``"x265"`` or ``"jctvc"``.
        encoder_path, decoder_path: the programs.
    """

    def __init__(
        self,
        subsampling: str = "444",
        bit_depth: int | str = 8,
        colours: str = "ycbcr",
        encoder: str = "x265",
        encoder_path: str = "bpgenc",
        decoder_path: str = "bpgdec",
    ) -> None:
        options = ["-f", subsampling, "-e", encoder, "-c", colours, "-b", str(bit_depth)]
        super().__init__(
            f"BPG {bit_depth}b {subsampling} {encoder} {colours}",
            "BPG",
            lambda source, quality, coded: [
                *(encoder_path, "-o", coded, "-q", str(quality)),
                *(*options, source),
            ],
            lambda coded, decoded: [decoder_path, "-o", decoded, coded],
            (0, 51),
            range(10, 52, 5),
        )


class VtmCodec(ProgramCodec):
    """The VVC reference software VTM; quality is the quantiser, 0 to 63, lower is better.

    Args:
        build_dir: folder with its programs.
        config: its configuration file.
        rgb: code R, G and B in place of Y'CbCr.

    Raises:
        FileNotFoundError: programs or configuration are not there.
        RuntimeError: the system is neither Linux nor macOS.
    """

    name = description = "VTM"
    bounds = (0, 63)
    qualities = tuple(range(17, 48, 5))
    raw = True
    _programs = ("EncoderApp", "DecoderApp")

    def __init__(self, build_dir: str | Path, config: str | Path, rgb: bool = False) -> None:
        self.encoder_path, self.decoder_path = (
            find_program(build_dir, name) for name in self.program_names()
        )
        if not Path(config).is_file():
            raise FileNotFoundError(f"the configuration {config} does not exist")
        self.config = str(config)
        self.rgb = rgb

    @classmethod
    def program_names(cls) -> tuple[str, str]:
        """How its build calls the programs on this system."""
        suffixes = {"Linux": "Static", "Darwin": ""}
        system = platform.system()
        if system not in suffixes:
            raise RuntimeError(f"programs of VTM are known for Linux and macOS, not for {system}")
        encoder, decoder = cls._programs
        return encoder + suffixes[system], decoder + suffixes[system]

    def encode_command(self, source: str, quality: int, coded: str, size: tuple[int, int]) -> list:
        command = self._common(source, quality, coded, size)
        command.append("--ConformanceWindowMode=1")
        if self.rgb:
            command += [
                "--InputColourSpaceConvert=RGBtoGBR",
                "--SNRInternalColourSpace=1",
                "--OutputInternalColourSpace=0",
            ]
        return command

    def _common(self, source: str, quality: int, coded: str, size: tuple[int, int]) -> list:
        width, height = map(str, size)
        return [
            *(self.encoder_path, "-i", source, "-c", self.config, "-q", str(quality)),
            *("-o", "/dev/null", "-b", coded, "-wdt", width, "-hgt", height, "-fr", "1", "-f", "1"),
            *("--InputChromaFormat=444", "--InputBitDepth=8"),
        ]

    def decode_command(self, coded: str, decoded: str) -> list:
        command = [self.decoder_path, "-b", coded, "-o", decoded, "-d", "8"]
        if self.rgb:
            command.append("--OutputInternalColourSpace=GBRtoRGB")
        return command


class HmCodec(VtmCodec):
    """The HEVC reference software HM; quality is the quantiser, 0 to 51, lower is better.

    Args: as of :class:`VtmCodec`.
    """

    name = description = "HM"
    bounds = (0, 51)

    @classmethod
    def program_names(cls) -> tuple[str, str]:
        return "TAppEncoderStatic", "TAppDecoderStatic"

    def encode_command(self, source: str, quality: int, coded: str, size: tuple[int, int]) -> list:
        command = [
            *self._common(source, quality, coded, size),
            *("--SEIDecodedImageHash", "--Level=5.1", "--CUNoSplitIntraACT=0"),
            "--ConformanceMode=1",
        ]
        if self.rgb:
            command += [
                "--InputColourSpaceConvert=RGBtoGBR",
                "--SNRInternalColourSpace=1",
                "--OutputInternalColourSpace=0",
            ]
        return command


class AomCodec(ProgramCodec):
    """AV1 through ``aomenc`` and ``aomdec``; quality is 0 to 63, lower is better.

    Args:
        build_dir: folder with its programs.

    Raises:
        FileNotFoundError: they are not there.
    """

    name = description = "AV1"
    bounds = (0, 63)
    qualities = tuple(range(8, 60, 8))
    raw = True

    def __init__(self, build_dir: str | Path) -> None:
        self.encoder_path = find_program(build_dir, "aomenc")
        self.decoder_path = find_program(build_dir, "aomdec")

    def encode_command(self, source: str, quality: int, coded: str, size: tuple[int, int]) -> list:
        width, height = map(str, size)
        return [
            *(self.encoder_path, "-w", width, "-h", height, "--fps=1/1", "--limit=1"),
            *("--input-bit-depth=8", "--cpu-used=0", "--threads=1", "--passes=2", "--end-usage=q"),
            *(f"--cq-level={quality}", "--i444", "--skip=0", "--tune=psnr", "--psnr"),
            *("--bit-depth=8", "-o", coded, source),
        ]

    def decode_command(self, coded: str, decoded: str) -> list:
        return [self.decoder_path, coded, "-o", decoded, "--rawvideo", "--output-bit-depth=8"]
