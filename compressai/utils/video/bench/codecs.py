# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The codecs of the benchmark: x264 and x265 through PyAV, the reference softwares as programs."""

from __future__ import annotations

import argparse
import platform
import re
import shlex
import subprocess
from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from compressai._files import atomic_write
from compressai.datasets import RawVideoSequence
from compressai.evaluation.video_codecs import TUNES, decode_mp4, encode_mp4, pyav

__all__ = ["HM", "VTM", "Codec", "get_ffmpeg_version", "run_command", "x264", "x265"]


def run_command(cmd: list[Any], ignore_returncodes: list[int] | None = None) -> str:
    """Run a program.

    Args:
        cmd: program and arguments.
        ignore_returncodes: status codes that are no failure.

    Returns:
        What it printed on both streams.

    Raises:
        RuntimeError: it does not exist, or fails; tells what it printed.
    """
    words = [str(word) for word in cmd]
    try:
        done = subprocess.run(
            words,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as error:
        raise RuntimeError(f"cannot run {words[0]}: {error.strerror}") from error
    if done.returncode and done.returncode not in (ignore_returncodes or ()):
        raise RuntimeError(
            f"{shlex.join(words)} failed with status {done.returncode}:\n{done.stdout}"
        )
    return done.stdout


def get_ffmpeg_version() -> str:
    """Version of the codec library of FFmpeg that PyAV brings, and of PyAV."""
    av = pyav()
    return (
        f"libavcodec {'.'.join(map(str, av.library_versions['libavcodec']))}, PyAV {av.__version__}"
    )


class Codec(ABC):
    """A classical video codec.

    ``encode`` and ``decode`` do the work; ``get_encode_cmd`` and ``get_decode_cmd`` are the same
    as command lines, of the program that is run, or, of a library, of the program around it.

    Attributes:
        runner: what to say before such a command line.
    """

    runner: ClassVar[str] = ""

    @property
    @abstractmethod
    def name(self) -> str:
        """Short name."""

    @property
    @abstractmethod
    def description(self) -> str:
        """Settings and version."""

    @abstractmethod
    def name_config(self) -> str:
        """Name with settings, part of the names of files."""

    @abstractmethod
    def add_parser_args(self, parser: argparse.ArgumentParser) -> None:
        """Add the codec's own options."""

    @abstractmethod
    def set_args(self, args: argparse.Namespace) -> argparse.Namespace:
        """Take the options."""

    @abstractmethod
    def get_bin_path(self, filepath: Path, qp: int, binpath: Path, inputdir: Path) -> Path:
        """Where the coded file of a sequence goes, below the folder ``binpath``."""

    @abstractmethod
    def get_encode_cmd(self, filepath: Path, qp: int, binpath: Path) -> list[Any]:
        """The command line that encodes."""

    @abstractmethod
    def get_decode_cmd(self, binpath: Path, decpath: Path, input_filepath: Path) -> list[Any]:
        """The command line that decodes."""

    @abstractmethod
    def encode(self, filepath: Path, qp: int, binpath: Path, logpath: Path) -> None:
        """Write the coded file, and what the encoder says."""

    @abstractmethod
    def decode(self, binpath: Path, decpath: Path, input_filepath: Path) -> None:
        """Write the decoded frames as raw video."""

    def _bin_path(
        self, filepath: Path, qp: int, binpath: Path, inputdir: Path, suffix: str
    ) -> Path:
        folder = Path(binpath) / Path(filepath).parent.relative_to(inputdir)
        return folder / f"{Path(filepath).stem}_{self.name_config()}_qp{qp}{suffix}"


class x264(Codec):
    """H.264 by x264."""

    ffmpeg_name: ClassVar[str] = "h264"
    runner = "PyAV, the same as "

    def __init__(self) -> None:
        self.preset = "medium"
        self.tune = "psnr"

    @property
    def name(self) -> str:
        return "x264"

    def name_config(self) -> str:
        return f"{self.name}_{self.preset}_tune-{self.tune}"

    @property
    def description(self) -> str:
        return f"{self.name} {self.preset}, {self.tune}, {get_ffmpeg_version()}"

    def add_parser_args(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("-p", "--preset", default="medium", help="(default: medium)")
        parser.add_argument("--tune", default="psnr", choices=TUNES, help="(default: psnr)")

    def set_args(self, args: argparse.Namespace) -> argparse.Namespace:
        self.preset = args.preset
        self.tune = args.tune
        return args

    def get_bin_path(self, filepath: Path, qp: int, binpath: Path, inputdir: Path) -> Path:
        return self._bin_path(filepath, qp, binpath, inputdir, ".mp4")

    def get_encode_cmd(self, filepath: Path, qp: int, binpath: Path) -> list[Any]:
        sequence = RawVideoSequence.from_file(filepath)
        size = ["-s:v", f"{sequence.width}x{sequence.height}", "-i", filepath]
        rate = ["-c:v", self.ffmpeg_name, "-crf", qp, "-preset", self.preset]
        return ["ffmpeg", "-y", *size, *rate, *self._no_b_frames(), *self._rest(binpath)]

    def _no_b_frames(self) -> list[str]:
        return ["-bf", "0"]

    def _rest(self, binpath: Path) -> list[Any]:
        return ["-tune", self.tune, "-pix_fmt", "yuv420p", "-threads", "4", binpath]

    def get_decode_cmd(self, binpath: Path, decpath: Path, input_filepath: Path) -> list[Any]:
        return ["ffmpeg", "-y", "-i", binpath, "-pix_fmt", "yuv420p", decpath]

    def encode(self, filepath: Path, qp: int, binpath: Path, logpath: Path) -> None:
        options = {"crf": qp, "preset": self.preset, "tune": self.tune}
        encode_mp4(RawVideoSequence.from_file(filepath), binpath, self.name, **options)
        logpath.write_text(f"{self.description}\n{options}\n", encoding="utf-8")

    def decode(self, binpath: Path, decpath: Path, input_filepath: Path) -> None:
        sequence = RawVideoSequence.from_file(input_filepath)
        with open(decpath, "wb") as file:
            decode_mp4(binpath, sequence, file.write)


class x265(x264):
    """H.265 by x265."""

    ffmpeg_name: ClassVar[str] = "hevc"

    @property
    def name(self) -> str:
        return "x265"

    def _no_b_frames(self) -> list[str]:
        return ["-x265-params", "bframes=0"]


class VTM(Codec):
    """H.266 by its reference software, which has to be built and named with ``--build-dir``."""

    programs: ClassVar[dict[str, tuple[str, str]]] = {
        "Linux": ("EncoderAppStatic", "DecoderAppStatic"),
        "Darwin": ("EncoderApp", "DecoderApp"),
    }

    def __init__(self) -> None:
        self.build_dir = Path()
        self.config = Path("encoder_default.cfg")
        self.rgb = False

    @property
    def name(self) -> str:
        return "VTM"

    @property
    def description(self) -> str:
        return f"{self.name} reference software, version {self.version}"

    @cached_property
    def version(self) -> str:
        """What the encoder says of itself."""
        return self.get_version(self.get_encoder_path(self.build_dir))

    def name_config(self) -> str:
        return f"{self.name}_{self._config_name()}"

    def _config_name(self) -> str:
        parts = self.config.stem.split("_")
        return parts[1] if len(parts) > 1 else parts[0]

    def add_parser_args(self, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument
        add("-b", "--build-dir", type=Path, required=True, help="folder with the programs")
        add("-c", "--config", type=Path, required=True, help="configuration of the encoder")
        add("--rgb", action="store_true", help="code RGB")

    def set_args(self, args: argparse.Namespace) -> argparse.Namespace:
        self.build_dir = Path(args.build_dir)
        self.config = Path(args.config)
        self.rgb = args.rgb
        return args

    def _program(self, build_dir: Path, index: int) -> Path:
        system = platform.system()
        if system not in self.programs:
            raise RuntimeError(f"{self.name} runs on {', '.join(self.programs)}, not on {system}")
        path = Path(build_dir) / self.programs[system][index]
        if not path.is_file():
            raise RuntimeError(
                f"{path} does not exist: build the {self.name} reference software, and name the "
                "folder of its programs with --build-dir"
            )
        return path

    def get_encoder_path(self, build_dir: Path) -> Path:
        """The encoder.

        Raises:
            RuntimeError: there is none; says what to do.
        """
        return self._program(build_dir, 0)

    def get_decoder_path(self, build_dir: Path) -> Path:
        """The decoder; as :meth:`get_encoder_path`."""
        return self._program(build_dir, 1)

    def get_version(self, encoder_path: Path) -> str:
        """The version in the first lines that an encoder prints, or ``unknown``."""
        text = run_command([encoder_path, "--help"], ignore_returncodes=[1])
        found = re.search(r"[Vv]ersion\s*\[?([\w.-]+)", text)
        return found[1] if found else "unknown"

    def get_bin_path(self, filepath: Path, qp: int, binpath: Path, inputdir: Path) -> Path:
        return self._bin_path(filepath, qp, binpath, inputdir, ".bin")

    def get_encode_cmd(self, filepath: Path, qp: int, binpath: Path) -> list[Any]:
        sequence = RawVideoSequence.from_file(filepath)
        if sequence.framerate is None:
            raise ValueError(f"{filepath}: the name must tell the frame rate")
        command: list[Any] = [self.get_encoder_path(self.build_dir)]
        command += ["-i", filepath, "-c", self.config, "-q", qp, "-o", "/dev/null", "-b", binpath]
        command += ["-wdt", sequence.width, "-hgt", sequence.height, "-fr", sequence.framerate]
        command += ["-f", len(sequence), f"--InputBitDepth={sequence.bitdepth}"]
        command += [f"--OutputBitDepth={sequence.bitdepth}"]
        if self.rgb:
            command += ["--InputColourSpaceConvert=RGBtoGBR", "--SNRInternalColourSpace=1"]
            command += ["--OutputInternalColourSpace=0"]
        return command

    def get_decode_cmd(self, binpath: Path, decpath: Path, input_filepath: Path) -> list[Any]:
        sequence = RawVideoSequence.from_file(input_filepath)
        command: list[Any] = [self.get_decoder_path(self.build_dir), "-b", binpath]
        command += ["-o", decpath, "-d", sequence.bitdepth]
        if self.rgb:
            command += ["--OutputInternalColourSpace=GBRtoRGB"]
        return command

    def encode(self, filepath: Path, qp: int, binpath: Path, logpath: Path) -> None:
        with atomic_write(binpath) as unfinished:
            logpath.write_text(
                run_command(self.get_encode_cmd(filepath, qp, unfinished)), encoding="utf-8"
            )

    def decode(self, binpath: Path, decpath: Path, input_filepath: Path) -> None:
        run_command(self.get_decode_cmd(binpath, decpath, input_filepath))


class HM(VTM):
    """H.265 by its reference software."""

    programs: ClassVar[dict[str, tuple[str, str]]] = {
        "Linux": ("TAppEncoderStatic", "TAppDecoderStatic"),
        "Darwin": ("TAppEncoderStatic", "TAppDecoderStatic"),
    }

    @property
    def name(self) -> str:
        return "HM"
