# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Networks of torch as ONNX graphs, and onnxruntime to run them."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compressai._distribution import install_command

__all__ = [
    "CannotExportError",
    "export_graph",
    "first_line",
    "import_onnx",
    "open_session",
    "trace_graph",
]

# The last of the older exporter that browsers and runtimes of some years know.
_OPSET = 17


class CannotExportError(Exception):
    """The exporter, or onnxruntime, cannot cope with a network."""


def export_graph(
    network: nn.Module,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    path: Path,
    *,
    dynamic: bool,
) -> None:
    """Write a network as an ONNX file.

    Args:
        network: takes and gives tensors ``(N, C, H, W)``.
        inputs: examples ``(1, C, H, W)`` by name, in the order of its arguments.
        outputs: names of what it gives.
        path: the file.
        dynamic: for any batch, height and width, not those of the examples alone.

    Raises:
        CannotExportError: the exporter cannot translate an operation, or sizes became constants.
    """
    auto = torch.export.Dim.AUTO
    # Sizes of one are taken for constants, hence two images.
    examples = tuple(x.repeat(2, 1, 1, 1) if dynamic else x for x in inputs.values())
    shapes = tuple({0: auto, 2: auto, 3: auto} for _ in examples)
    try:
        with _quiet():
            program = torch.onnx.export(
                _Positional(network),
                examples,
                dynamo=True,
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_shapes=(shapes,) if dynamic else None,
                verbose=False,
            )
            program.save(path)
    except torch.onnx.OnnxExporterError as error:
        raise CannotExportError(first_line(error.__cause__ or error)) from error
    if dynamic:
        for found in open_session(path).get_inputs():
            if not all(isinstance(found.shape[axis], str) for axis in (0, 2, 3)):
                raise CannotExportError("sizes became constants")


def trace_graph(
    network: nn.Module, inputs: Mapping[str, Tensor], outputs: Sequence[str], path: Path
) -> None:
    """As :func:`export_graph`, for any height and width, by torch's older exporter.

    It takes a thirtieth of the time, but follows one run: compare results for other sizes.

    Raises:
        CannotExportError: it cannot translate an operation, or is no longer there.
    """
    sides = {2: "height", 3: "width"}
    try:
        with _quiet():
            torch.onnx.export(
                _Positional(network),
                tuple(inputs.values()),
                path,
                dynamo=False,
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_axes=dict.fromkeys((*inputs, *outputs), sides),
                opset_version=_OPSET,
            )
    # It raises whatever its many parts do.
    except Exception as error:
        raise CannotExportError(first_line(error)) from error


class _Positional(nn.Module):
    """A network whose arguments have no names, so that their sizes can be told by their places."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> Any:
        return self.network(*inputs)


def first_line(error: BaseException) -> str:
    """What an error says, in short."""
    return str(error).strip().partition("\n")[0]


def open_session(path: Path) -> Any:
    """An onnxruntime session of a file."""
    # Of the extra onnx.
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised, too
    return onnxruntime.InferenceSession(path, options)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter says about itself."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)


def import_onnx() -> None:
    """See that all packages are there.

    Raises:
        ImportError: onnx, onnxscript or onnxruntime is missing.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise ImportError(
            f"{error.name} is missing: {install_command('onnx')} to export to ONNX"
        ) from error
