# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Compress and decompress an image or raw video: the command line that CompressAI 1.2 had.

The program ``compressai`` does the same with more comfort. This one keeps the flags, printed lines
and default names of its predecessor. It reads files of both and writes the new formats.
"""

from __future__ import annotations

import argparse
import contextlib
import enum
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

import compressai
from compressai._files import atomic_write
from compressai.bitstream import (
    ImageData,
    check_image_file,
    open_video,
    parse_coded,
    read_coded,
    read_image,
    save_image,
)
from compressai.bitstream import decode_image as decode_pixels
from compressai.bitstream import decode_video as decode_frames
from compressai.bitstream import encode_image as encode_pixels
from compressai.bitstream import encode_video as encode_frames
from compressai.bitstream.legacy import METRICS, MODEL_IDS, read_body, write_body
from compressai.bitstream.legacy_video import VIDEO_MODEL
from compressai.bitstream.video_codec import frame_to_rgb
from compressai.bitstream.video_container import VIDEO_MAGIC
from compressai.cli.messages import explain, print_note
from compressai.datasets import RawVideoSequence, VideoFormat
from compressai.datasets.rawvideo import bitdepth_to_dtype
from compressai.model_choice import (
    DEFAULT_METRIC,
    DEFAULT_QUALITY,
    RANDOM_WEIGHTS_NOTE,
    choose_model,
    model_of,
)
from compressai.ops import compute_padding
from compressai.transforms import frame_to_planes, planes_to_rgb, rgb_to_planes

__all__ = [
    "CodecInfo",
    "CodecType",
    "Header",
    "convert_output",
    "convert_rgb_yuv420",
    "convert_yuv420_rgb",
    "crop",
    "decode_image",
    "decode_video",
    "encode_image",
    "encode_video",
    "filesize",
    "get_header",
    "img2torch",
    "inverse_dict",
    "load_image",
    "main",
    "metric_ids",
    "model_ids",
    "pad",
    "parse_header",
    "read_body",
    "torch2img",
    "write_body",
    "write_frame",
]

# Numbers in files of CompressAI 1.2.
model_ids = {name: number for number, name in enumerate(MODEL_IDS)}
metric_ids = {name: number for number, name in enumerate(METRICS)}


class CodecType(enum.IntEnum):
    """What a file holds."""

    IMAGE_CODEC = 0
    VIDEO_CODEC = 1
    NUM_CODEC_TYPE = 2


class Header(NamedTuple):
    """Which weights an image is coded with; ``quality`` is ``None`` for those of a checkpoint."""

    model: str
    metric: str | None
    quality: int | None


class CodecInfo(NamedTuple):
    """What :func:`encode_image` and :func:`decode_image` work with."""

    codec_header: Header
    original_size: tuple[int, int] | None
    original_bitdepth: int
    net: nn.Module
    device: str
    random_weights: bool = False


def inverse_dict(d: Mapping[Any, Any]) -> dict[Any, Any]:
    """Keys by value.

    Raises:
        ValueError: two keys have the same value.
    """
    inverse = {value: key for key, value in d.items()}
    if len(inverse) != len(d):
        raise ValueError(f"d must not have a value twice, got {dict(d)!r}")
    return inverse


def filesize(filepath: str | Path) -> int:
    """Length of a file in bytes.

    Raises:
        ValueError: there is no such file.
    """
    path = Path(filepath)
    if not path.is_file():
        raise ValueError(f"{path} is no file")
    return path.stat().st_size


def load_image(filepath: str | Path) -> Image.Image:
    """An image file as an upright RGB image in sRGB."""
    return read_image(filepath).to_image().convert("RGB")


def img2torch(img: Image.Image) -> Tensor:
    """An image as float32 ``(1, 3, H, W)`` in [0, 1]."""
    return read_image(img).pixels[None]


def torch2img(x: Tensor) -> Image.Image:
    """``(1, 3, H, W)`` in [0, 1] as an RGB image; values are clamped and rounded."""
    return ImageData(x.squeeze(0)).to_image()


def pad(x: Tensor, p: int = 2**6) -> Tensor:
    """Put images ``(N, C, H, W)`` in the middle of zeros, with sides that are multiples of p."""
    padding, _ = compute_padding(x.size(2), x.size(3), min_div=p)
    return F.pad(x, padding)


def crop(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Undo :func:`pad`: the middle ``size`` (height, width) of ``(N, C, H, W)``."""
    _, unpadding = compute_padding(*size, out_h=x.size(2), out_w=x.size(3))
    return F.pad(x, unpadding)


def get_header(
    model_name: str, metric: str, quality: int, num_of_frames: int, codec_type: CodecType
) -> tuple[int, ...]:
    """First numbers of a file of CompressAI 1.2; of a video, the number of frames is the third.

    Raises:
        ValueError: that format has no number for the model, metric or quality.
    """
    if model_name not in model_ids or metric not in metric_ids or not 1 <= quality <= 16:
        raise ValueError(
            f"model_name, metric and quality must be in {list(model_ids)}, {list(metric_ids)} and "
            f"1 ... 16, got {model_name!r}, {metric!r} and {quality!r}"
        )
    numbers = (model_ids[model_name], metric_ids[metric] << 4 | quality - 1)
    return (*numbers, num_of_frames) if codec_type == CodecType.VIDEO_CODEC else numbers


def parse_header(header: tuple[int, ...]) -> Header:
    """Names for the first two numbers of a file of CompressAI 1.2.

    Raises:
        ValueError: unknown numbers.
    """
    model, code = header[:2]
    if not 0 <= model < len(MODEL_IDS) or not 0 <= code >> 4 < len(METRICS):
        raise ValueError(f"header must hold numbers of a model and a metric, got {header!r}")
    return Header(MODEL_IDS[model], METRICS[code >> 4], (code & 15) + 1)


def convert_yuv420_rgb(
    frame: np.void | Sequence[np.ndarray], device: torch.device | str, max_val: float
) -> Tensor:
    """A 4:2:0 frame of code values as RGB ``(1, 3, H, W)`` in [0, 1], chroma enlarged bicubic.

    Args:
        frame: record or sequence of the planes y, u, v.
        device: where the result goes.
        max_val: code value of white.
    """
    if isinstance(frame, np.void):
        planes = frame_to_planes(frame, max_val, device)
    else:
        arrays = (torch.from_numpy(plane.astype(np.float32)) for plane in frame)
        planes = tuple(array[None, None].to(device) / max_val for array in arrays)
    return planes_to_rgb(planes, VideoFormat.YUV420, mode="bicubic")


def convert_rgb_yuv420(frame: Tensor) -> tuple[Tensor, ...]:
    """RGB ``(1, 3, H, W)`` as three 4:2:0 planes."""
    return rgb_to_planes(frame, VideoFormat.YUV420)


def convert_output(t: Tensor, bitdepth: int = 8) -> np.ndarray:
    """Values in [0, 1] as code values, clamped and rounded; without the first two dimensions.

    Raises:
        ValueError: there is no raw video of such a depth.
    """
    if bitdepth not in bitdepth_to_dtype:
        raise ValueError(f"bitdepth must be one of {list(bitdepth_to_dtype)}, got {bitdepth}")
    white = 2**bitdepth - 1
    values = t.detach().cpu().float().mul(white).round().clamp(0, white)
    return values.squeeze(0).squeeze(0).numpy().astype(bitdepth_to_dtype[bitdepth])


def write_frame(fout: BinaryIO, frame: Sequence[Tensor], bitdepth: int = 8) -> None:
    """Append the planes of a frame to a raw video."""
    for plane in frame:
        fout.write(convert_output(plane, bitdepth).tobytes())


def encode_image(source: str | Path, codec: CodecInfo, output: str | Path) -> dict[str, float]:
    """Compress an image file, or the first frame of a raw video, into a ``.cai`` file.

    Returns:
        ``{"bpp": bits of the file per pixel}``.
    """
    image = _first_frame(source) if Path(source).suffix.lower() == ".yuv" else read_image(source)
    for note in image.notes:
        print_note(f"{source}: {note}")
    coded = encode_pixels(
        codec.net, image, **codec.codec_header._asdict(), random_weights=codec.random_weights
    )
    with atomic_write(output) as unfinished:
        unfinished.write_bytes(coded.to_bytes())
    return {"bpp": filesize(output) * 8 / (coded.width * coded.height)}


def _first_frame(source: str | Path) -> ImageData:
    sequence = RawVideoSequence.from_file(source)
    if not len(sequence):
        raise ValueError(f"{source} has no frames")
    return ImageData(frame_to_rgb(sequence[0], sequence)[0].clamp(0, 1))


def encode_video(
    source: str | Path, codec: CodecInfo, output: str | Path, num_of_frames: int = -1
) -> dict[str, float]:
    """Compress a raw video into a ``.cav`` file, whatever its name.

    Args:
        source: a 4:2:0 or other planar ``.yuv`` file whose name tells what is in it.
        codec: the model.
        output: file to write; nothing is left of it if encoding fails.
        num_of_frames: how many, from the first; -1 for all.

    Returns:
        ``{"bpp": bits of the file per pixel of all frames}``.
    """
    sequence = RawVideoSequence.from_file(source)
    with atomic_write(output) as unfinished, open(unfinished, "wb") as file:
        header = encode_frames(
            codec.net,
            sequence,
            file,
            **codec.codec_header._asdict(),
            random_weights=codec.random_weights,
            frames=None if num_of_frames == -1 else num_of_frames,
        )
    pixels = header.width * header.height * header.frames
    return {"bpp": filesize(output) * 8 / pixels}


def decode_image(
    f: BinaryIO, codec: CodecInfo, output: str | Path | None = None
) -> dict[str, Image.Image]:
    """Decompress an image, and write it if there is an ``output``.

    Args:
        f: a file of either format, at its start.
        codec: the model.
        output: image file, or ``.yuv`` file of one 4:2:0 frame.

    Returns:
        ``{"img": the image}``.
    """
    image = decode_pixels(codec.net, parse_coded(f.read()))
    if output is not None and Path(output).suffix == ".yuv":
        with atomic_write(output) as unfinished, open(unfinished, "wb") as file:
            write_frame(file, convert_rgb_yuv420(image.pixels[None]), codec.original_bitdepth)
    elif output is not None:
        save_image(image, output)
    return {"img": image.to_image()}


def decode_video(
    f: BinaryIO, codec: CodecInfo, output: str | Path | None = None
) -> dict[str, Image.Image]:
    """Decompress a video, and write it if there is an ``output``.

    Args:
        f: a file of either format, at its start.
        codec: the model.
        output: ``.yuv`` file, or image file: its name gets the number of each frame.

    Returns:
        ``{"img": the last frame}``.
    """
    reader = open_video(f)
    header = reader.header
    white = 2**header.bitdepth - 1
    with _frame_writer(output, header.format) as write:
        for number, frame in enumerate(decode_frames(codec.net, reader)):
            write(number, frame, white)
    planes = frame_to_planes(frame[()], white)
    return {"img": torch2img(planes_to_rgb(planes, header.format, mode="bicubic"))}


@contextlib.contextmanager
def _frame_writer(output: str | Path | None, format: VideoFormat) -> Iterator[Any]:
    """What writes frame by frame: nothing, a raw video, or an image file each."""
    if output is None:
        yield lambda number, frame, white: None
        return
    path = Path(output)
    if path.suffix == ".yuv":
        with atomic_write(path) as unfinished, open(unfinished, "wb") as file:
            yield lambda number, frame, white: file.write(frame.tobytes())
        return

    def save(number: int, frame: np.ndarray, white: int) -> None:
        rgb = planes_to_rgb(frame_to_planes(frame[()], white), format, mode="bicubic")
        save_image(ImageData(rgb[0]), path.with_stem(f"{path.stem}_{number:04}"))

    yield save


def _encode(args: argparse.Namespace) -> None:
    start = time.perf_counter()
    is_video = args.model in compressai.zoo.video_models
    chosen = choose_model(
        args.model,
        args.quality or DEFAULT_QUALITY,
        args.metric or DEFAULT_METRIC,
        args.checkpoint,
        compressai.zoo.video_models if is_video else compressai.zoo.image_models,
    )
    loading = time.perf_counter() - start
    if chosen.random_weights:
        print_note(RANDOM_WEIGHTS_NOTE.format_map(vars(chosen)))
    header = Header(chosen.model, chosen.metric, chosen.quality)
    net = chosen.net.to(args.device)
    codec = CodecInfo(header, None, 8, net, args.device, chosen.random_weights)
    output = args.output or Path(args.input.with_suffix(".bin").name)
    start = time.perf_counter()
    # A checkpoint may be of either kind, and tells only now.
    if is_video or hasattr(net, "encode_keyframe"):
        out = encode_video(args.input, codec, output, args.num_of_frames)
    else:
        out = encode_image(args.input, codec, output)
    seconds = time.perf_counter() - start
    print(f"{out['bpp']:.3f} bpp | Encoded in {seconds:.2f}s (model loading: {loading:.2f}s)")


def _is_video(path: Path) -> bool:
    with open(path, "rb") as file:
        start = file.read(len(VIDEO_MAGIC))
    return start == VIDEO_MAGIC or start[:1] == bytes((model_ids[VIDEO_MODEL],))


def _decode(args: argparse.Namespace) -> None:
    start = time.perf_counter()
    is_video = _is_video(args.input)
    if is_video:
        with open_video(args.input) as reader:
            coded = reader.header
        bitdepth = coded.bitdepth
    else:
        coded = read_coded(args.input)
        bitdepth = getattr(coded, "bit_depth", 8)
    if args.output and args.output.suffix != ".yuv":
        note = check_image_file(args.output, "RGB" if is_video else coded.mode)
        if note:
            print_note(note)
    zoo = compressai.zoo.video_models if is_video else compressai.zoo.image_models
    net = model_of(coded, args.checkpoint, zoo).to(args.device)
    header = Header(coded.model, coded.metric, coded.quality)
    codec = CodecInfo(header, (coded.height, coded.width), bitdepth, net, args.device)
    print(f"Model: {header.model}, metric: {header.metric}, quality: {header.quality}")
    loading = time.perf_counter() - start
    start = time.perf_counter()
    with open(args.input, "rb") as file:
        out = (decode_video if is_video else decode_image)(file, codec, args.output)
    seconds = time.perf_counter() - start
    print(f"Decoded in {seconds:.2f}s (model loading: {loading:.2f}s)")
    if args.show:
        out["img"].show()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("input", type=Path)
    coders = compressai.available_entropy_coders()
    common.add_argument(
        "-c", "--coder", choices=coders, default=coders[0], help="(default: %(default)s)"
    )
    common.add_argument("-o", "--output", type=Path)
    common.add_argument("--checkpoint", type=Path, help="file with weights, not the zoo's")
    common.add_argument("--cuda", dest="device", action="store_const", const="cuda", default="cpu")

    encode = commands.add_parser("encode", parents=[common], help="image or video to file")
    encode.set_defaults(run=_encode)
    encode.add_argument(
        "-f", "--num_of_frames", type=int, default=-1, help="of videos (default: all)"
    )
    encode.add_argument("--model", help=f"(default: {next(iter(compressai.zoo.models))})")
    encode.add_argument("-m", "--metric", choices=METRICS, help=f"(default: {DEFAULT_METRIC})")
    encode.add_argument(
        "-q", "--quality", type=int, choices=range(1, 10), help=f"(default: {DEFAULT_QUALITY})"
    )

    decode = commands.add_parser("decode", parents=[common], help="file to image or video")
    decode.set_defaults(run=_decode)
    decode.add_argument("--show", action="store_true", help="open the image in a viewer")
    return parser


def _check(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("--cuda: this PyTorch finds no CUDA device")
    if args.command == "decode":
        return
    if args.num_of_frames != -1 and args.input.suffix.lower() != ".yuv":
        parser.error("-f is for raw videos (.yuv)")
    if args.checkpoint is not None:
        if (args.quality, args.metric) != (None, None):
            parser.error("-q and -m choose weights of the zoo, not of a file")
        return
    image_models, video_models = compressai.zoo.image_models, compressai.zoo.video_models
    args.model = args.model or next(iter(compressai.zoo.models))
    if args.model in video_models:
        if args.input.suffix.lower() != ".yuv":
            parser.error(f"--model {args.model} is not for images, but for raw videos (.yuv)")
        return
    if args.model not in image_models:
        kind = "is not for images" if args.model in model_ids else "is unknown"
        known = ", ".join((*image_models, *video_models))
        parser.error(f"--model {args.model} {kind}; choose one of {known}")
    if args.num_of_frames not in (-1, 1):
        parser.error(f"--model {args.model} codes one frame only, -f is for video models")
    if args.quality == 9:
        parser.error("-q 9: invalid choice, image models have the qualities 1 to 8")


def main(argv: list[str] | None = None) -> None:
    """Run the program.

    Args:
        argv: command line without the program's name; ``None`` takes that of the process.
    """
    parser = _parser()
    args = parser.parse_args(argv)
    _check(args, parser)
    torch.set_num_threads(1)
    torch.backends.cudnn.deterministic = True
    compressai.set_entropy_coder(args.coder)
    try:
        args.run(args)
    except (ImportError, OSError, ValueError, RuntimeError) as error:
        raise SystemExit(f"{parser.prog}: error: {explain(error)}") from error


if __name__ == "__main__":
    main()
