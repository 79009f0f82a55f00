# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Fixtures that tests of several files share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
import torch
from coded_videos import encoded
from not_run import print_not_run
from processors import pretend
from program import MODEL, alone_in, program, save_photo, save_tiny
from tiny_nets import one_thread, tiny_net
from torch import nn
from video_clips import clip

from compressai.datasets import RawVideoSequence

pretend(os.environ)
# Nothing is timed: how long an example takes is a matter of what else the machine does.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    print_not_run(terminalreporter)


@pytest.fixture(scope="module")
def one_torch_thread() -> Iterator[None]:
    """Small networks only get slower by threads; see :func:`tiny_nets.one_thread`."""
    with one_thread():
        yield


@pytest.fixture(scope="module")
def net() -> nn.Module:
    """A small model with a hyperprior, unless a file has a ``net`` of its own."""
    return tiny_net("mbt2018-mean")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to work in, and no weights at hand."""
    with alone_in(tmp_path, monkeypatch) as here:
        yield here


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with checkpoints of two seeds and plain weights."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for seed in range(2):
        save_tiny(folder / f"{seed}.safetensors", seed)
    torch.save(tiny_net(MODEL).state_dict(), folder / "weights.pth")
    return folder


@pytest.fixture(scope="module")
def checkpoint(checkpoints: Path) -> Path:
    """A checkpoint of a small model."""
    return checkpoints / "0.safetensors"


@pytest.fixture
def photo(folder: Path) -> object:
    """An image in the folder, ``photo.png``."""
    return save_photo()


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., object]:
    """Runs the program: its status, output and errors."""
    return program(capsys)


@pytest.fixture(scope="module")
def sequence(tmp_path_factory: pytest.TempPathFactory) -> RawVideoSequence:
    """A raw video of five frames."""
    return RawVideoSequence.from_file(clip(tmp_path_factory.mktemp("clip"), frames=5))


@pytest.fixture(scope="module")
def coded(net: nn.Module, sequence: RawVideoSequence) -> bytes:
    """It, coded by a video model ``net``; the first and the fourth frame are key frames."""
    return encoded(net, sequence, gop=3)
