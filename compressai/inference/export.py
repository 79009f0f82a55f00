# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Transforms as ONNX files, for programs that run networks without torch."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from compressai._files import atomic_write
from compressai.inference._onnx import (
    CannotExportError,
    export_graph,
    first_line,
    import_onnx,
    open_session,
)
from compressai.inference.transforms import (
    TRANSFORMS,
    check_model,
    copy_transform,
    fold_gdn,
    probe_image,
)
from compressai.layers.ssm import SS2D
from compressai.models import CompressionModel

__all__ = ["ExportedTransform", "export_onnx"]

_TOLERANCE = 1e-4


@dataclass(frozen=True)
class ExportedTransform:
    """One transform in a file.

    Attributes:
        path: the ONNX file.
        error: largest difference between onnxruntime and torch, in units of the largest value or of
            1, whichever is more.
        shape: of the input that was tried, ``(N, C, H, W)``.
    """

    path: Path
    error: float
    shape: tuple[int, ...]


def export_onnx(
    net: CompressionModel,
    folder: Path | str,
    *,
    size: tuple[int, int] | None = None,
    replace: bool = True,
) -> dict[str, ExportedTransform]:
    """Write ``g_a.onnx`` and ``g_s.onnx``, and see that onnxruntime computes what torch does.

    Input and output are called ``x`` and ``y`` in ``g_a``, ``y_hat`` and ``x_hat`` in ``g_s``, all
    float32 ``(N, C, H, W)``. The entropy path is not exported: other kernels would compute other
    probabilities, and strings would not decode.

    Args:
        net: model in evaluation mode.
        folder: where to; made if it is missing.
        size: height and width of the images that the files are for. ``None``: any size that the
            model takes, and any batch.
        replace: whether files of these names are replaced.

    Returns:
        The files, by name of the transform.

    Raises:
        FileExistsError: there is such a file, and it is not to be replaced.
        ImportError: onnx, onnxscript or onnxruntime is missing.
        TypeError, ValueError: as :func:`~compressai.inference.prepare`; ``size`` does not fit the
            model; its transforms work for one size only and ``size`` is ``None``.
        RuntimeError: the exporter cannot translate an operation, or the results differ by more than
            1e-4. Nothing is written then.
    """
    import_onnx()
    reference = check_model(net)
    image = probe_image(reference).cpu()
    side = image.size(-1)
    if size is not None and (min(size) < 1 or size[0] % side or size[1] % side):
        raise ValueError(f"height and width must be positive multiples of {side}, got size={size}")
    generator = torch.Generator().manual_seed(0)
    # Sides that differ, so that none is taken for the other.
    height, width = (2 * side, 3 * side) if size is None else size
    x = torch.rand(1, image.size(1), height, width, generator=generator)
    others = torch.rand(2, image.size(1), 3 * side, side, generator=generator)

    exported: dict[str, ExportedTransform] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in TRANSFORMS:
            network = _Callable(reference, name)
            if any(isinstance(module, SS2D) for module in network.modules()):
                raise RuntimeError(
                    f"{name} of {type(reference).__name__} cannot be exported: ONNX has no "
                    "operator for its selective scans"
                )
            path = Path(scratch) / f"{name}.onnx"
            with torch.no_grad():
                outputs = [network(x)] if size else [network(x), network(others)]
                inputs = [x] if size else [x, others]
                try:
                    _export(network, name, x, path, dynamic=size is None)
                    errors = torch.tensor(list(map(_error, [path] * 2, inputs, outputs)))
                    error = float(errors.max())  # NaN if one of them is
                except CannotExportError as problem:
                    raise _explained(problem, name, size) from problem
            if not error <= _TOLERANCE:
                raise RuntimeError(
                    f"onnxruntime gives other results for {name} of {type(reference).__name__} "
                    f"than torch: they differ by {error:.2g}, more than {_TOLERANCE:g}"
                )
            exported[name] = ExportedTransform(Path(folder) / path.name, error, tuple(x.shape))
            x, others = outputs[0], outputs[-1]
        # Both or none: transforms of different models would fit each other.
        written: list[Path] = []
        try:
            for one in exported.values():
                one.path.parent.mkdir(parents=True, exist_ok=True)
                with atomic_write(one.path, replace=replace) as new:
                    new.write_bytes((Path(scratch) / one.path.name).read_bytes())
                written.append(one.path)
        except BaseException:
            if not replace:  # they were not there before
                for path in written:
                    path.unlink(missing_ok=True)
            raise
    return exported


_NAMES = {"g_a": ("x", "y"), "g_s": ("y_hat", "x_hat")}


class _Callable(nn.Module):
    """A copy of a transform as a module, on the processor."""

    def __init__(self, net: CompressionModel, name: str) -> None:
        super().__init__()
        copied = copy_transform(net, name)
        with torch.no_grad():
            fold_gdn(copied.network)
        self.network = copied.network.cpu().float()
        self._call: Callable[[Tensor], Tensor] = copied.call
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self._call(x)


def _explained(problem: CannotExportError, name: str, size: tuple[int, int] | None) -> Exception:
    if size is None:
        return ValueError(
            f"{name} cannot be exported for images of any size ({problem}): "
            "give size=(height, width), or --size on the command line"
        )
    return RuntimeError(f"{name} cannot be exported: {problem}")


def _export(network: nn.Module, name: str, x: Tensor, path: Path, dynamic: bool) -> None:
    source, target = _NAMES[name]
    export_graph(network, {source: x}, [target], path, dynamic=dynamic)


def _error(path: Path, x: Tensor, expected: Tensor) -> float:
    try:
        session = open_session(path)
        [result] = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    except Exception as error:
        # onnxruntime has a class for each cause, and no common one but this.
        raise CannotExportError(first_line(error)) from error
    difference = torch.from_numpy(result) - expected
    return float(difference.abs().max() / expected.abs().max().clamp(min=1))
