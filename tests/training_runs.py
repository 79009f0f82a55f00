# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Short runs of ``examples/train.py``, and what they write."""

from __future__ import annotations

import json
import re

import torch
from video_clips import ROOT, load_example

__all__ = [
    "FAST",
    "ROOT",
    "TEST_LINE",
    "TINY",
    "TRAIN_LINE",
    "assert_same",
    "records",
    "run",
    "state_of",
    "train",
]

TINY = ["--model-args", "N=8", "M=12"]
FAST = ["-n", "0", "--batch-size", "2", "--patch-size", "64", "64"]
TRAIN_LINE = re.compile(
    r"Train epoch (\d+): \[(\d+)/(\d+) \((\d+)%\)\]\tLoss: (\d+\.\d{3}) \|\t"
    r"MSE loss: (\d+\.\d{3}) \|\tBpp loss: (\d+\.\d{2}) \|\tAux loss: (\d+\.\d{2})"
)
TEST_LINE = re.compile(
    r"Test epoch (\d+): Average losses:\tLoss: (\d+\.\d{3}) \|\t"
    r"MSE loss: (\d+\.\d{3}) \|\tBpp loss: (\d+\.\d{2}) \|\tAux loss: (\d+\.\d{2})\n\n"
)

train = load_example("train")


def run(images, save_dir, *arguments):
    train.main(["-d", str(images), "--save-dir", str(save_dir), *TINY, *FAST, *arguments])


def records(path, event):
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [line for line in lines if line["event"] == event]


def state_of(save_dir, name="checkpoint.pth.tar"):
    return torch.load(save_dir / name, weights_only=True)


def assert_same(one, other, path="state"):
    """Bitwise equality of nested containers of tensors."""
    assert type(one) is type(other), path
    if isinstance(one, dict):
        assert list(one) == list(other), path
        for key in one:
            assert_same(one[key], other[key], f"{path}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), path
        for i, (a, b) in enumerate(zip(one, other)):
            assert_same(a, b, f"{path}[{i}]")
    elif torch.is_tensor(one):
        assert torch.equal(one, other), path
    else:
        assert one == other, path
