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
only in modules that the caller has imported. Files are read by ``compressai._weight_files``, and
models built by ``compressai.models._build``, which both trust nothing.
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
from typing import Any, cast

import safetensors.torch
import torch
from torch import Tensor, nn

from compressai import zoo
from compressai._files import atomic_write
from compressai._weight_files import METADATA_KEY, read_description, read_weights, shown
from compressai.models._build import build_and_load, why_not
from compressai.models._state_dict import clean_state_dict, unwrap_checkpoint
from compressai.models.base import CompressionModel, ModelIdentity
from compressai.registry import METRICS, MODELS
from compressai.version import __version__

__all__ = [
    "describe",
    "load_checkpoint",
    "read_metadata",
    "save_checkpoint",
    "unwrap_model",
]

FORMAT = 1
# Sizes and numbers of layers in files stay below this.
_LARGEST_NUMBER = 1 << 20


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
    if _find_builder(architecture, arguments) is None:
        _check_inference(_find_class(architecture), unwrap_model(net))
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
    replace: bool = True,
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
        replace: whether the file is replaced if it exists.

    Raises:
        FileExistsError: the file exists and is not to be replaced.
        ValueError: unknown architecture, arguments that it does not take or that do not rebuild
            it, or no JSON data.
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
    with atomic_write(path, replace=replace) as unfinished:
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
    return _checked_metadata(path, read_description(path))


def load_checkpoint(
    path: str | os.PathLike[str],
    *,
    device: str | torch.device = "cpu",
    architecture: str | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> CompressionModel:
    """Load a model that is ready to evaluate and to code.

    Accepted are self-describing checkpoints (safetensors, or training checkpoints of
    ``examples/train.py``) and, with an ``architecture``, state dicts and training checkpoints of
    other origin: with any prefix that all names have in common, such as those of DataParallel,
    ``torch.compile`` and Lightning modules, as an average (``AveragedModel``), wrapped in
    ``state_dict``, ``network``, ``model_state_dict`` and the like, with or without tables of any
    size.

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

    file = read_weights(path)
    metadata = _checked_metadata(path, file.description)
    from_file = architecture is None
    if architecture is None:
        if metadata is None:
            raise ValueError(
                f"{str(path)!r} does not say which architecture it is of: pass architecture=, "
                f"one of {_known_names()} or 'module.Class'"
            )
        architecture, arguments = metadata["architecture"], metadata["arguments"]

    builder = _find_builder(architecture, arguments := dict(arguments or {}))
    try:
        if from_file and _is_ours(architecture):
            _check_numbers(arguments)
        net = _build(architecture, builder, arguments, file.content)
        _build_missing_tables(net)
        metric = (metadata or {}).get("metric")
        # Of the zoo's qualities it is none: a file has to name the checkpoint.
        net.identity = ModelIdentity(architecture, metric=metric if metric in METRICS else None)
        _remember_multiplier(net, metadata)
    except ImportError:
        raise
    # Tables are made of numbers in the file, too.
    except Exception as error:
        why = why_not(error)
        raise ValueError(f"{str(path)!r} does not fit {architecture!r}: {why}") from error
    # Or whatever class of yours was asked for.
    return cast(CompressionModel, net.to(device).eval())


def _remember_multiplier(net: nn.Module, description: Mapping[str, Any] | None) -> None:
    """What the file says of its training, for those who code with the model."""
    lmbda = (description or {}).get("lmbda")
    if isinstance(net, CompressionModel) and isinstance(lmbda, float) and net.lmbda is None:
        net.lmbda = lmbda


def _build_missing_tables(net: nn.Module) -> None:
    if isinstance(net, CompressionModel):
        net.update()


def _checked_metadata(path: Path, metadata: Any) -> dict[str, Any] | None:
    if metadata is None:
        return None
    number = metadata.get("format") if isinstance(metadata, dict) else None
    if not isinstance(number, int) or isinstance(number, bool):
        raise ValueError(f"{str(path)!r} has metadata without a format number: {shown(metadata)}")
    if number > FORMAT:
        raise ValueError(
            f"{str(path)!r} has checkpoint format {number}, written by version "
            f"{shown(metadata.get('version'))}; this version {__version__} reads up to {FORMAT}"
        )
    for name, kind in (("architecture", str), ("arguments", dict)):
        if not isinstance(metadata.get(name), kind):
            raise ValueError(
                f"{str(path)!r} has metadata without {name}: {shown(metadata.get(name))}"
            )
    return metadata


def _check_numbers(value: Any) -> None:
    """Refuse numbers in arguments that no model of this library has."""
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            _check_numbers(item)
    elif isinstance(value, int | float) and abs(value) > _LARGEST_NUMBER:
        raise ValueError(f"its arguments must be at most {_LARGEST_NUMBER}, got {shown(value)}")


def _known_names() -> list[str]:
    from compressai import models, zoo  # noqa: F401  (models: fills the registry)

    return sorted({*(name for name, entry in zoo.models.items() if entry), *MODELS})


def _find_class(architecture: str) -> type[nn.Module]:
    from compressai import models  # noqa: F401  (fills the registry)

    if architecture in MODELS:
        return MODELS[architecture]
    module_name, _, name = architecture.rpartition(".")
    if module_name == "compressai" or module_name.startswith("compressai."):
        with contextlib.suppress(ModuleNotFoundError, TypeError, ValueError):  # by odd names
            importlib.import_module(module_name)
    found = getattr(sys.modules.get(module_name), name, None)
    if isinstance(found, type) and issubclass(found, nn.Module):
        return found
    raise ValueError(
        f"architecture must be one of {_known_names()}, or 'module.Class' of a torch module that "
        f"is imported already, got {shown(architecture)}"
    )


def _find_builder(
    architecture: str, arguments: Mapping[str, Any]
) -> Callable[..., nn.Module] | None:
    """What to call with the arguments; ``None`` stands for ``from_state_dict`` of the class."""
    if "pretrained" in arguments:
        raise ValueError(f"arguments must not ask for other weights, got {_listed(arguments)}")
    builder = zoo.models.get(architecture) if "quality" in arguments else None
    if builder is None:
        builder = _find_class(architecture)
        if not arguments and hasattr(builder, "from_state_dict"):
            return None
    try:
        inspect.signature(builder).bind(**arguments)
    except TypeError as error:
        raise ValueError(
            f"arguments must be those of {architecture!r}, got {_listed(arguments)}: {error}"
        ) from error
    return builder


def _check_inference(cls: Any, net: nn.Module) -> None:
    """Refuse to write a file without arguments whose class cannot read sizes off the weights.

    Raises:
        ValueError: it cannot.
    """
    infer = getattr(cls, "infer_arguments", None)
    if infer is None:
        return
    try:
        infer(net.state_dict())
    except (NotImplementedError, KeyError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"arguments must be those that {cls.__name__} was built with, as it cannot read them "
            f"off its weights: {why_not(error)}"
        ) from error


def _listed(arguments: Mapping[str, Any]) -> str:
    listed = ", ".join(f"{ascii(k)[1:-1][:40]}={shown(v)}" for k, v in list(arguments.items())[:10])
    return listed + ", ..." if len(arguments) > 10 else listed


def _is_ours(architecture: str) -> bool:
    if architecture in zoo.models:
        return True
    return _find_class(architecture).__module__.partition(".")[0] == "compressai"


def _build(
    architecture: str,
    builder: Callable[..., nn.Module] | None,
    arguments: Mapping[str, Any],
    checkpoint: Mapping[str, Any],
) -> nn.Module:
    ours = _is_ours(architecture)

    def make(weights: Mapping[str, Tensor]) -> nn.Module:
        if builder is None:
            # Names of a user's model may all begin alike: that is for its class to know.
            weights = clean_state_dict(weights, any_prefix=ours)
            return _find_class(architecture).from_state_dict(weights)
        net = builder(**arguments)
        net.load_state_dict(clean_state_dict(weights, known=net.state_dict().keys()))
        return net

    return build_and_load(make, unwrap_checkpoint(checkpoint))
