# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Checkpoints that say what they are: weights, entropy tables and the recipe of the model.

A checkpoint is a safetensors file. Its metadata has one entry, ``compressai``, a JSON object::

    {
      "format": 1,                        # raised when older readers must not read it
      "version": "1.3.0",                 # of this library
      "architecture": "mbt2018-mean",     # see below
      "arguments": {"quality": 3},
      "class": "compressai.models.google.MeanScaleHyperprior",
      "lmbda": 0.0067,
      "metric": "mse",
      "extra": {}                         # whatever the writer found worth keeping
    }

``architecture`` and ``arguments`` rebuild the model:

- a name of the model zoo and arguments with ``quality``: the zoo function is called with them;
- a registered name, or a class as ``module.Class``, and other arguments: the class is called;
- either, and no arguments: the sizes are read off the weights (``from_state_dict`` of the class).

A file cannot make this module import anything but this library: classes from elsewhere are found
only in modules that the caller has imported, and pickles are read with ``weights_only``.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import inspect
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from compressai._files import atomic_write
from compressai.registry import MODELS
from compressai.version import __version__

__all__ = [
    "describe",
    "load_checkpoint",
    "read_metadata",
    "read_pickle",
    "save_checkpoint",
    "unwrap_model",
]

METADATA_KEY = "compressai"
FORMAT = 1


def unwrap_model(net: nn.Module) -> nn.Module:
    """The model inside of DataParallel, DistributedDataParallel and ``torch.compile`` wrappers."""
    while True:
        if isinstance(net, nn.DataParallel | nn.parallel.DistributedDataParallel):
            net = net.module
        elif isinstance(inner := getattr(net, "_orig_mod", None), nn.Module):
            net = inner
        else:
            return net


def describe(
    net: nn.Module,
    *,
    architecture: str,
    arguments: Mapping[str, Any],
    lmbda: float | Sequence[float] | None = None,
    metric: str | None = None,
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The metadata of a checkpoint, checked.

    Args and errors as in :func:`save_checkpoint`.
    """
    architecture, arguments = str(architecture), dict(arguments)
    _find_builder(architecture, arguments)
    kind = type(unwrap_model(net))
    metadata = {
        "format": FORMAT,
        "version": __version__,
        "architecture": architecture,
        "arguments": arguments,
        "class": f"{kind.__module__}.{kind.__qualname__}",
        "lmbda": lmbda,
        "metric": metric,
        "extra": dict(extra or {}),
    }
    for name, value in metadata.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name} must be JSON data, got {value!r} ({error})") from error
    return metadata


def save_checkpoint(
    path: str | os.PathLike[str],
    net: nn.Module,
    *,
    architecture: str,
    arguments: Mapping[str, Any],
    lmbda: float | Sequence[float] | None = None,
    metric: str | None = None,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write a self-describing checkpoint, at once or not at all.

    The model is not changed. Tables that it has are stored as they are, tables that it lacks are
    built in a copy; call ``net.update(force=True)`` first if the weights changed since.

    Args:
        path: file to write, customarily ``*.safetensors``.
        net: the model, wrapped or not, on any device.
        architecture: name in the zoo or the registry, or ``module.Class``.
        arguments: what the zoo function (if they include ``quality``) or the class is called
            with; empty to infer sizes from the weights. JSON data: a tuple comes back as a list.
        lmbda: weight of the distortion in training, or those of the levels of a variable rate.
        metric: distortion in training, ``"mse"`` or ``"ms-ssim"``.
        extra: further JSON data, numbers finite.

    Raises:
        ValueError: unknown architecture, arguments that it does not take, or no JSON data.
    """
    metadata = describe(
        net,
        architecture=architecture,
        arguments=arguments,
        lmbda=lmbda,
        metric=metric,
        extra=extra,
    )
    net = copy.deepcopy(unwrap_model(net)).cpu()
    _build_missing_tables(net)
    tensors = {
        # Clones: safetensors refuses tensors that share memory.
        key: value.detach().clone(memory_format=torch.contiguous_format)
        for key, value in net.state_dict().items()
    }
    with atomic_write(path) as unfinished:
        # Not save_file: its files are readable by their owner only.
        unfinished.write_bytes(
            safetensors.torch.save(tensors, metadata={METADATA_KEY: json.dumps(metadata)})
        )


def read_metadata(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """What a checkpoint says about itself, or ``None`` if it says nothing.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no checkpoint.
    """
    path = Path(path)
    if _is_safetensors(path):
        return _safetensors_metadata(path)
    return _checked_metadata(path, read_pickle(path).get(METADATA_KEY))


def load_checkpoint(
    path: str | os.PathLike[str],
    *,
    device: str | torch.device = "cpu",
    architecture: str | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Load a model that is ready to evaluate and to code.

    Accepted are self-describing checkpoints (safetensors, or training checkpoints of
    ``examples/train.py``) and, with an ``architecture``, state dicts and training checkpoints of
    other origin: with prefixes of DataParallel or ``torch.compile``, wrapped in ``state_dict``,
    ``network`` or ``model_state_dict``, with or without tables of any size.

    Args:
        path: the file.
        device: where the model goes.
        architecture: name in the zoo or the registry, or ``module.Class``; needed if the file
            does not say, and wins over what it says.
        arguments: for ``architecture``, as in :func:`save_checkpoint`; default: sizes are
            inferred from the weights.

    Returns:
        The model, in evaluation mode, tables built.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no checkpoint, does not say its architecture, names one that is
            unknown here, or its weights do not fit.
    """
    path = Path(path)
    if architecture is None and arguments is not None:
        raise ValueError(f"arguments need an architecture, got arguments={dict(arguments)!r}")

    if _is_safetensors(path):
        metadata = _safetensors_metadata(path)
        checkpoint: Mapping[str, Any] = _read_safetensors(path)
    else:
        checkpoint = read_pickle(path)
        metadata = _checked_metadata(path, checkpoint.get(METADATA_KEY))
    if architecture is None:
        if metadata is None:
            raise ValueError(
                f"{str(path)!r} does not say which architecture it is of: pass architecture=, "
                f"one of {_known_names()} or 'module.Class'"
            )
        architecture, arguments = metadata["architecture"], metadata["arguments"]

    try:
        net = _build(architecture, dict(arguments or {}), checkpoint)
    except (KeyError, RuntimeError) as error:
        raise ValueError(f"{str(path)!r} does not fit {architecture!r}: {error}") from error
    _build_missing_tables(net)
    return net.to(device).eval()


def _build_missing_tables(net: nn.Module) -> None:
    from compressai.models import CompressionModel

    if isinstance(net, CompressionModel):
        net.update()


def _is_safetensors(path: Path) -> bool:
    """Whether the file begins like safetensors: length of a JSON object, then the object."""
    with open(path, "rb") as file:
        head = file.read(9)
    length = int.from_bytes(head[:8], "little")
    return head[8:] == b"{" and length <= path.stat().st_size - 8


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{str(path)!r} is a damaged safetensors file: {error}") from error


def _safetensors_metadata(path: Path) -> dict[str, Any] | None:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(METADATA_KEY)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{str(path)!r} is a damaged safetensors file: {error}") from error
    if text is None:
        return None
    try:
        return _checked_metadata(path, json.loads(text))
    except json.JSONDecodeError as error:
        raise ValueError(f"{str(path)!r} has metadata that is no JSON: {error}") from error


def _checked_metadata(path: Path, metadata: Any) -> dict[str, Any] | None:
    if metadata is None:
        return None
    if not isinstance(metadata, dict) or not isinstance(metadata.get("format"), int):
        raise ValueError(f"{str(path)!r} has metadata without a format number: {metadata!r}")
    if metadata["format"] > FORMAT:
        raise ValueError(
            f"{str(path)!r} has checkpoint format {metadata['format']}, written by version "
            f"{metadata.get('version')}; this version {__version__} reads up to {FORMAT}"
        )
    if not isinstance(metadata.get("architecture"), str):
        raise ValueError(f"{str(path)!r} has metadata without architecture: {metadata!r}")
    if not isinstance(metadata.get("arguments"), dict):
        raise ValueError(f"{str(path)!r} has metadata without arguments: {metadata!r}")
    return metadata


def read_pickle(path: str | os.PathLike[str]) -> Mapping[str, Any]:
    """The content of a file written by ``torch.save``, if it is plain data and tensors.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is something else, or not a mapping.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    # The unpickler fails in as many ways as a damaged or hostile file can be written.
    except Exception as error:
        raise ValueError(
            f"{str(path)!r} is no checkpoint that can be read safely (tensors and plain data, no "
            f"other objects): {error}"
        ) from error
    if not isinstance(checkpoint, Mapping):
        raise ValueError(f"{str(path)!r} holds a {type(checkpoint).__name__}, not a state dict")
    return checkpoint


def _known_names() -> list[str]:
    from compressai import models, zoo  # noqa: F401  (models: fills the registry)

    return sorted({*(name for name, entry in zoo.models.items() if entry), *MODELS})


def _find_class(architecture: str) -> type[nn.Module]:
    from compressai import models  # noqa: F401  (fills the registry)

    if architecture in MODELS:
        return MODELS[architecture]
    module_name, _, name = architecture.rpartition(".")
    if module_name == "compressai" or module_name.startswith("compressai."):
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(module_name)
    found = getattr(sys.modules.get(module_name), name, None)
    if isinstance(found, type) and issubclass(found, nn.Module):
        return found
    raise ValueError(
        f"architecture must be one of {_known_names()}, or 'module.Class' of a torch module that "
        f"is imported already, got {architecture!r}"
    )


def _find_builder(
    architecture: str, arguments: Mapping[str, Any]
) -> Callable[..., nn.Module] | None:
    """What to call with the arguments; ``None`` stands for ``from_state_dict`` of the class."""
    from compressai import zoo

    if "pretrained" in arguments:
        raise ValueError(f"arguments must not ask for other weights, got {dict(arguments)!r}")
    builder = zoo.models.get(architecture) if "quality" in arguments else None
    if builder is None:
        builder = _find_class(architecture)
        if not arguments and hasattr(builder, "from_state_dict"):
            return None
    try:
        inspect.signature(builder).bind(**arguments)
    except TypeError as error:
        raise ValueError(
            f"arguments must be those of {architecture!r}, got {dict(arguments)!r}: {error}"
        ) from error
    return builder


def _build(
    architecture: str, arguments: Mapping[str, Any], checkpoint: Mapping[str, Any]
) -> nn.Module:
    from compressai.models._state_dict import clean_state_dict

    builder = _find_builder(architecture, arguments)
    if builder is None:
        return _find_class(architecture).from_state_dict(clean_state_dict(checkpoint))
    net = builder(**arguments)
    net.load_state_dict(clean_state_dict(checkpoint, known=net.state_dict().keys()))
    return net
