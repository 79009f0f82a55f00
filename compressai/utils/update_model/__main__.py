# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Turn a training checkpoint into weights for coding: tables computed, a hash in the name."""

from __future__ import annotations

import argparse
import hashlib
import os
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from compressai._weight_files import read_weights
from compressai.models import (
    FactorizedPrior,
    JointAutoregressiveHierarchicalPriors,
    MeanScaleHyperprior,
    ScaleHyperprior,
)
from compressai.models._build import build_and_load
from compressai.models._state_dict import clean_state_dict
from compressai.models.video import ScaleSpaceFlow
from compressai.zoo.image import model_architectures
from compressai.zoo.image_vbr import model_architectures as vbr_architectures
from compressai.zoo.pretrained import load_pretrained

__all__ = ["load_checkpoint", "main", "models", "setup_args", "sha256_file"]

models: dict[str, Any] = {
    "factorized-prior": FactorizedPrior,
    "jarhp": JointAutoregressiveHierarchicalPriors,
    "mean-scale-hyperprior": MeanScaleHyperprior,
    "scale-hyperprior": ScaleHyperprior,
    "ssf2020": ScaleSpaceFlow,
    # CompressAI spells this one with underscores here.
    "bmshj2018_factorized_relu": model_architectures["bmshj2018-factorized-relu"],
    **model_architectures,
    **vbr_architectures,
}

_HASH_DIGITS = 8


def sha256_file(filepath: str | Path, len_hash_prefix: int = _HASH_DIGITS) -> str:
    """The first hexadecimal digits of a file's SHA-256.

    Args:
        filepath: the file.
        len_hash_prefix: how many digits.
    """
    return hashlib.sha256(Path(filepath).read_bytes()).hexdigest()[:len_hash_prefix]


def load_checkpoint(filepath: str | Path, arch: str) -> nn.Module:
    """A model with the weights of a checkpoint, its tables as they are there.

    Args:
        filepath: state dict, or training checkpoint with one under ``network``, ``state_dict`` or
            ``model_state_dict``; written by torch or safetensors.
        arch: key of :data:`models`.

    Returns:
        The model.

    Raises:
        RuntimeError: it is no file.
        EOFError: the file is empty.
        ValueError: it is no checkpoint, or of another architecture.
    """
    path = Path(filepath)
    if not path.is_file():
        raise RuntimeError(f"{filepath} is no file")
    if path.stat().st_size == 0:
        raise EOFError(f"{filepath} is empty")
    content = read_weights(path).content
    try:
        weights = load_pretrained(clean_state_dict(content))
        return build_and_load(models[arch].from_state_dict, weights)
    except ValueError as error:
        raise ValueError(f"{filepath} does not fit {arch!r}: {error}") from error


def setup_args() -> argparse.ArgumentParser:
    """The parser of the program."""
    parser = argparse.ArgumentParser(
        prog="python -m compressai.utils.update_model", description=__doc__
    )
    parser.add_argument("filepath", type=str, help="checkpoint")
    parser.add_argument("-n", "--name", type=str, help="name of the result, without suffix")
    parser.add_argument("-d", "--dir", type=str, help="folder of the result (default: this one)")
    parser.add_argument(
        "--no-update", action="store_true", help="leave the tables of the entropy models alone"
    )
    parser.add_argument(
        "-a", "--architecture", choices=list(models), default="scale-hyperprior",
        help="(default: %(default)s)",
    )  # fmt: skip
    return parser


def main(argv: Sequence[str]) -> None:
    """Run the program.

    The result is ``DIR/NAME-HASH`` with the suffixes of the checkpoint. With the name and folder of
    the checkpoint itself it takes the checkpoint's place: only the result is left.

    Args:
        argv: command line without the program's name.
    """
    args = setup_args().parse_args(argv)
    source = Path(args.filepath)
    net = load_checkpoint(source, args.architecture)
    if not args.no_update:
        net.update(force=True)
    suffix = "".join(source.suffixes)
    name = args.name or source.name.removesuffix(suffix)
    folder = Path(args.dir or ".")
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f".{name[:50]}.{os.getpid()}.{secrets.token_hex(4)}"
    try:
        _save(net, unfinished, suffix)
        result = folder / f"{name}-{sha256_file(unfinished)}{suffix}"
        os.replace(unfinished, result)
    finally:
        unfinished.unlink(missing_ok=True)
    plain = folder / f"{name}{suffix}"
    if plain.is_file() and plain.samefile(source):
        plain.unlink()


def _save(net: nn.Module, path: Path, suffix: str) -> None:
    state_dict = net.state_dict()
    if suffix.endswith(".safetensors"):
        content = {key: value.clone().contiguous() for key, value in state_dict.items()}
        path.write_bytes(safetensors.torch.save(content))
    else:
        torch.save(state_dict, path)


if __name__ == "__main__":
    main(sys.argv[1:])
