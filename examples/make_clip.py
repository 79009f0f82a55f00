# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Make a raw video clip of a photo: a camera that pans, zooms and turns over it.

The name of the file tells what is in it, as all programs here expect it::

    python examples/make_clip.py examples/assets/chelsea.png --frames 30
    compressai video encode chelsea_256x192_30fps_8bit_yuv420.yuv
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from compressai._files import atomic_write
from compressai.datasets import VideoFormat
from compressai.datasets.rawvideo import bitdepth_to_dtype
from compressai.transforms import planes_to_frame, rgb_to_planes

__all__ = ["camera_motion", "main", "make_clip"]


def camera_motion(photo: Image.Image, width: int, height: int, position: float) -> Image.Image:
    """The view of a camera that moves over a photo, on a closed path.

    Args:
        photo: the image; the view stays inside of it.
        width, height: size of the view.
        position: place on the path, from 0 to 1 and again.

    Returns:
        The view, resampled by cubic interpolation.
    """
    angle = 2 * math.pi * position
    largest = min(photo.width / width, photo.height / height)
    # Half of what fits, breathing by a fifth: the view stays inside while it turns and pans.
    zoom = largest * (0.55 + 0.1 * math.sin(angle))
    turn = math.radians(4) * math.sin(2 * angle)
    cos, sin = zoom * math.cos(turn), zoom * math.sin(turn)
    x = photo.width * (0.5 + 0.12 * math.cos(angle))
    y = photo.height * (0.5 + 0.12 * math.sin(angle))
    return photo.transform(
        (width, height),
        Image.Transform.AFFINE,
        (
            *(cos, -sin, x - cos * width / 2 + sin * height / 2),
            *(sin, cos, y - sin * width / 2 - cos * height / 2),
        ),
        Image.Resampling.BICUBIC,
    )


def make_clip(
    photo: Path,
    folder: Path,
    *,
    width: int = 256,
    height: int = 192,
    frames: int = 30,
    framerate: int = 30,
    bitdepth: int = 8,
    format: VideoFormat = VideoFormat.YUV420,
    period: int = 120,
) -> Path:
    """Write a clip.

    Args:
        photo: image file.
        folder: where the clip goes; made if needed.
        width, height, frames, framerate, bitdepth, format: of the clip.
        period: frames after which the camera is back.

    Returns:
        The file.
    """
    with Image.open(photo) as file:
        image = file.convert("RGB")
    name = f"{photo.stem}_{width}x{height}_{framerate}fps_{bitdepth}bit_{format.value}.yuv"
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / name
    with atomic_write(target) as unfinished, open(unfinished, "wb") as out:
        for number in range(frames):
            view = camera_motion(image, width, height, number / period)
            pixels = torch.from_numpy(np.asarray(view).copy()).permute(2, 0, 1)[None] / 255
            frame = planes_to_frame(
                rgb_to_planes(pixels, format), format, bitdepth, bitdepth_to_dtype[bitdepth]
            )
            out.write(frame.tobytes())
    return target


def main(argv: Sequence[str] | None = None) -> None:
    """Run the program.

    Args:
        argv: command line without the program's name; ``None`` takes that of the process.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("photo", type=Path, help="image file")
    add("-o", "--folder", type=Path, default=Path(), help="where the clip goes (default: here)")
    add("--width", type=int, default=256, help="(default: %(default)s)")
    add("--height", type=int, default=192, help="(default: %(default)s)")
    add("--frames", type=int, default=30, help="(default: %(default)s)")
    add("--framerate", type=int, default=30, help="(default: %(default)s)")
    add("--bitdepth", type=int, default=8, choices=bitdepth_to_dtype, help="(default: 8)")
    add("--format", type=VideoFormat, default=VideoFormat.YUV420, help="(default: yuv420)")
    args = vars(parser.parse_args(argv))
    print(make_clip(args.pop("photo"), args.pop("folder"), **args))


if __name__ == "__main__":
    main()
