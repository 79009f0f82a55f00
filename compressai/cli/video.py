# SPDX-License-Identifier: BSD-3-Clause-Clear
"""``compressai video``: raw video to files and back."""

from __future__ import annotations

import time
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import typer

from compressai.cli.messages import print_note, print_report
from compressai.cli.options import (
    AsJson,
    Checkpoint,
    MaxPixels,
    Metric,
    Overwrite,
)
from compressai.cli.tasks import Task
from compressai.cli.video_tools import add_video_tools

__all__ = ["video"]

video = typer.Typer(
    name="video", help="Compress raw video (.yuv), frame by frame.", no_args_is_help=True
)

DEFAULT_MODEL = "ssf2020"
_MaxFrames = Annotated[
    int | None,
    typer.Option("--max-frames", min=1, help="Refuse longer videos. (default: 1048576)"),
]
_CodedVideo = Annotated[
    Path, typer.Argument(help="A .cav file, or a .bin file of CompressAI 1.2.", metavar="FILE")
]


def _rate(text: str) -> Fraction:
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if rate <= 0:
        raise typer.BadParameter(f"must be a number above 0, such as 30 or 30000/1001, got {text}")
    return rate


@video.command()
def encode(
    clip: Annotated[
        Path,
        typer.Argument(
            help="Raw planar video, with a name such as clip_832x480_30fps_8bit_yuv420.yuv."
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Default: CLIP with suffix .cav.")
    ] = None,
    width: Annotated[
        int | None, typer.Option(min=1, help="What the name of CLIP does not tell.")
    ] = None,
    height: Annotated[int | None, typer.Option(min=1, help="As --width.")] = None,
    bit_depth: Annotated[int | None, typer.Option(help="As --width: 8, 10, 12, 14, 16.")] = None,
    pixel_format: Annotated[
        str | None, typer.Option(help="As --width: yuv400, yuv420, yuv422, yuv444, rgb.")
    ] = None,
    frame_rate: Annotated[
        Any, typer.Option(parser=_rate, metavar="RATE", help="As --width: frames per second.")
    ] = None,
    frames: Annotated[
        int | None, typer.Option(min=1, help="How many, from the first. (default: all)")
    ] = None,
    gop: Annotated[
        int,
        typer.Option(
            min=0,
            help="Distance between key frames, where decoding can begin and damage ends; "
            "0: only the first frame is one.",
        ),
    ] = 0,
    model: Annotated[
        str | None, typer.Option(help=f"Name in the model zoo. (default: {DEFAULT_MODEL})")
    ] = None,
    quality: Annotated[
        int | None, typer.Option("-q", "--quality", help="Quality in the zoo. (default: 3)")
    ] = None,
    metric: Metric = None,
    sync_safe: Annotated[
        bool | None,
        typer.Option(
            "--sync-safe/--plain",
            help="Code so that rounding differences of the decoder's machine do not matter. "
            "(default: yes, for models that can)",
            show_default=False,
        ),
    ] = None,
    checkpoint: Checkpoint = None,
    max_pixels: MaxPixels = None,
    max_frames: _MaxFrames = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Compress a raw video into a .cav file."""
    if checkpoint is not None and (quality, metric) != (None, None):
        raise typer.BadParameter("--quality and --metric choose weights of the zoo, not of a file")
    from compressai import model_choice
    from compressai._files import atomic_write
    from compressai.bitstream import MAX_FRAMES, MAX_PIXELS, encode_video
    from compressai.datasets import RawVideoSequence
    from compressai.zoo import video_models

    target = output or clip.with_suffix(".cav")
    Task(clip, target).check_target(overwrite)
    sequence = RawVideoSequence.from_file(clip, width, height, bit_depth, pixel_format, frame_rate)
    if model is None and checkpoint is None:
        model = DEFAULT_MODEL
    chosen = model_choice.choose_model(
        model,
        quality,
        model_choice.DEFAULT_METRIC if metric is None else metric,
        checkpoint,
        video_models,
    )
    if chosen.random_weights:
        print_note(model_choice.RANDOM_WEIGHTS_NOTE.format_map(vars(chosen)))
    start = time.perf_counter()
    with atomic_write(target, replace=overwrite) as unfinished, open(unfinished, "wb") as file:
        header = encode_video(
            chosen.net,
            sequence,
            file,
            model=chosen.model,
            quality=chosen.quality,
            metric=chosen.metric,
            random_weights=chosen.random_weights,
            frames=frames,
            gop=gop,
            sync_safe=sync_safe,
            max_pixels=max_pixels or MAX_PIXELS,
            max_frames=max_frames or MAX_FRAMES,
        )
    seconds = time.perf_counter() - start
    size = target.stat().st_size
    report = {"file": str(target), **_sizes(size, header), **_facts(header), "seconds": seconds}
    print_report(report, as_json)


@video.command()
def decode(
    file: _CodedVideo,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Default: FILE with suffix .yuv.")
    ] = None,
    keep_going: Annotated[
        bool,
        typer.Option(
            "--keep-going",
            help="Repeat the last good frame in place of damaged ones, until the next key frame; "
            "end where too many are lost.",
        ),
    ] = False,
    checkpoint: Checkpoint = None,
    max_pixels: MaxPixels = None,
    max_frames: _MaxFrames = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Decompress a coded video into raw video of the format that its source had."""
    from compressai._files import atomic_write
    from compressai.bitstream import MAX_FRAMES, MAX_PIXELS, decode_video, open_video
    from compressai.model_choice import model_of
    from compressai.zoo import video_models

    target = output or file.with_suffix(".yuv")
    Task(file, target).check_target(overwrite)
    lost: list[int] = []
    written = 0

    def on_loss(number: int, error: Exception) -> None:
        lost.append(number)
        print_note(f"frame {number} is lost: {error}")

    with open_video(file) as reader:
        header = reader.header
        if header.random_weights:
            print_note(f"{file} was coded with RANDOM weights: it will not be recognisable")
        net = model_of(header, checkpoint, video_models)
        start = time.perf_counter()
        with atomic_write(target, replace=overwrite) as unfinished, open(unfinished, "wb") as out:
            for frame in decode_video(
                net,
                reader,
                conceal=keep_going,
                on_loss=on_loss,
                max_pixels=max_pixels or MAX_PIXELS,
                max_frames=max_frames or MAX_FRAMES,
            ):
                out.write(frame.tobytes())
                written += 1
    seconds = time.perf_counter() - start
    report = {"file": str(target), **_facts(header), "written_frames": written}
    print_report({**report, "lost_frames": lost, "seconds": seconds}, as_json)


@video.command()
def info(file: _CodedVideo, as_json: AsJson = False) -> None:
    """Show what a coded video says about itself."""
    from compressai.bitstream import open_video

    with open_video(file) as reader:
        header = reader.header
    print_report(
        {
            "file": str(file),
            "format": f"cav {header.version}" if header.version else "CompressAI 1.2",
            **_sizes(file.stat().st_size, header),
            **_facts(header),
            "fingerprint": header.fingerprint.hex() or None,
        },
        as_json,
    )


add_video_tools(video)


def _sizes(size: int, header: Any) -> dict[str, Any]:
    bits = 8 * size
    rate = header.framerate
    return {
        "bytes": size,
        "bpp": bits / (header.width * header.height * header.frames),
        "kbps": None if rate is None else float(bits * rate / header.frames / 1000),
    }


def _facts(header: Any) -> dict[str, Any]:
    return {
        "width": header.width,
        "height": header.height,
        "frames": header.frames,
        "frame_rate": None if header.framerate is None else str(header.framerate),
        "pixel_format": header.format.value,
        "bit_depth": header.bitdepth,
        "gop": header.gop,
        "model": header.model,
        "quality": header.quality,
        "metric": header.metric,
        "random_weights": header.random_weights,
        "sync_safe": header.sync_safe,
    }
