# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Running the program ``compressai`` in tests, in this process or another."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_nets import SIZES, one_thread, tiny_net

from compressai.checkpoint import save_checkpoint
from compressai.cli import main

__all__ = [
    "MODEL",
    "PHOTO",
    "alone_in",
    "blurred_noise",
    "files",
    "pixels",
    "program",
    "run_elsewhere",
    "save_crops",
    "save_photo",
    "save_tiny",
]

MODEL = "mbt2018-mean"
PHOTO = Path(__file__).parents[1] / "examples" / "assets" / "chelsea.png"


@contextlib.contextmanager
def alone_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in a folder, with no weights at hand."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COMPRESSAI_HOME", str(folder / "weights"))
    monkeypatch.delenv("COMPRESSAI_WEIGHTS_URL", raising=False)
    with one_thread():
        yield folder


def save_tiny(path: Path, seed: int = 0) -> Path:
    """A checkpoint of a tiny model."""
    net = tiny_net(MODEL, seed)
    save_checkpoint(path, net, architecture=MODEL, arguments=SIZES[MODEL], metric="mse")
    return path


def save_photo() -> Image.Image:
    """``photo.png`` in the current folder, and what is in it."""
    image = blurred_noise()
    image.save("photo.png")
    return image


def save_crops(boxes: Mapping[str | Path, tuple[int, int, int, int]]) -> None:
    """Parts of a real photo.

    Args:
        boxes: left, upper, right and lower edge, by the file to write.
    """
    with Image.open(PHOTO) as photo:
        for path, box in boxes.items():
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            photo.crop(box).save(path)


def files() -> list[str]:
    """What is in the current folder."""
    return sorted(path.name for path in Path().iterdir())


def pixels(path: str | Path) -> np.ndarray:
    """The samples of an image."""
    with Image.open(path) as image:
        return np.asarray(image)


def blurred_noise(size: tuple[int, int] = (70, 50), seed: int = 3) -> Image.Image:
    """An image with some colours."""
    rng = np.random.Generator(np.random.PCG64(seed))
    return Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)).resize(size)


def program(capsys: pytest.CaptureFixture[str]) -> Any:
    """What runs the program and gives ``(exit status, stdout, stderr)``."""

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return stop.value.code or 0, out, err

    return run


def run_elsewhere(*arguments: object, **options: Any) -> subprocess.CompletedProcess[Any]:
    """Run the program in a process of its own."""
    command = [sys.executable, "-c", "from compressai.cli import main; main()"]
    options = {"capture_output": True, "text": True, "check": False, **options}
    return subprocess.run([*command, *map(str, arguments)], **options)
