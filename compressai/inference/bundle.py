# SPDX-License-Identifier: BSD-3-Clause-Clear
"""A whole model as a bundle, for programs that code without torch.

What each network does is told by the model's own modules. What happens between them, the order of
coding, is told as data; the format is in ``docs/bundle.md``.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from compressai.bitstream._memory import coding_bytes
from compressai.bitstream.hashes import fingerprint
from compressai.entropy_models.synchrony import DEFAULT_TOLERANCE, SLOPE, STEP
from compressai.inference._bundle_plan import Network, Plan
from compressai.inference._bundle_windows import attend_in_any_number
from compressai.inference._onnx import (
    CannotExportError,
    export_graph,
    first_line,
    import_onnx,
    open_session,
    trace_graph,
)
from compressai.inference.transforms import check_model, fold_gdn, probe_image
from compressai.models import CompressionModel
from compressai.registry import ENTRIES
from compressai.runtime.bundle import LEVELS_VERSION, graph_metadata, write_bundle
from compressai.runtime.rates import Rates
from compressai.version import __version__

__all__ = ["ExportedBundle", "export_bundle"]

_TOLERANCE = 1e-4


@dataclass(frozen=True)
class ExportedBundle:
    """A bundle that was written.

    Attributes:
        path: the file.
        error: largest difference between onnxruntime and torch over all networks, in units of the
            largest value or of 1, whichever is more.
        networks: their names.
    """

    path: Path
    error: float
    networks: tuple[str, ...]


def export_bundle(
    net: CompressionModel, path: Path | str, *, replace: bool = True
) -> ExportedBundle:
    """Write a model as a bundle, and see that onnxruntime computes what torch does.

    Args:
        net: model in evaluation mode: a factorized prior, a hyperprior without spatial context (of
            variable rate, too), or a model of channel slices.
        path: the file.
        replace: whether it is replaced if it exists.

    Returns:
        What was written.

    Raises:
        FileExistsError: the file exists, and is not to be replaced.
        ImportError: onnx, onnxscript or onnxruntime is missing.
        TypeError: ``net`` is no :class:`~compressai.models.CompressionModel`.
        ValueError: it is in training mode, does not know its name in the zoo or in a checkpoint, or
            codes in a way that bundles have no words for; or one of its networks works for one size
            of images only.
        RuntimeError: onnxruntime gives other results than torch. Nothing is written then.
    """
    import_onnx()
    reference = check_model(net)
    if reference.identity is None:
        raise ValueError(
            f"this {type(reference).__name__} does not know its name, which files tell: make it by "
            "compressai.zoo or compressai.load()"
        )
    if not reference.has_tables:
        reference.update()
    copied = copy.deepcopy(reference).cpu().float().eval().requires_grad_(False)
    with torch.no_grad():
        fold_gdn(copied)
    attend_in_any_number(copied)
    plan = Plan(copied)
    image = probe_image(copied)
    side = image.size(-1)
    generator = torch.Generator().manual_seed(0)
    # Sides that differ, so that none is taken for the other.
    images = [
        torch.rand(1, 3, height * side, width * side, generator=generator)
        for height, width in ((2, 3), (3, 1))
    ]
    named = {
        "library": f"compressai {__version__}",
        **_identity(reference),
        "fingerprints": {str(v): fingerprint(reference, v).hex() for v in (1, 2)},
    }
    with tempfile.TemporaryDirectory() as scratch, torch.no_grad():
        told, graphs, error = _export_networks(plan, images, Path(scratch), named)
    write_bundle(
        path,
        {
            **named,
            **({"version": LEVELS_VERSION} if plan.rate and plan.rate.get("whole") else {}),
            "multiple": side,
            "bytes_a_pixel": coding_bytes(reference, 1, {}),
            "exact": plan.exact,
            "strings": plan.strings,
            "grid": None
            if plan.exact
            else {"step": STEP, "slope": SLOPE, "tolerance": DEFAULT_TOLERANCE},
            "tables": plan.tables,
            "latents": plan.latents,
            "analysis": plan.analysis,
            "coding": plan.coding,
            "synthesis": plan.synthesis,
            **({} if plan.rate is None else {"rate": plan.rate}),
        },
        told,
        graphs,
        plan.arrays,
        replace=replace,
    )
    return ExportedBundle(Path(path), error, tuple(told))


def _identity(net: CompressionModel) -> dict[str, Any]:
    identity = net.identity
    assert identity is not None
    entry = ENTRIES.get(identity.model)
    return {
        "model": identity.model,
        "quality": identity.quality,
        "metric": identity.metric,
        "random_weights": identity.random_weights,
        "licence": "" if entry is None else entry.licence,
        "paper": "" if entry is None else entry.paper,
    }


# -- graphs ----------------------------------------------------------------------------------------


def _export_networks(
    plan: Plan, images: Sequence[Tensor], scratch: Path, named: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, bytes], float]:
    """What is told of each network, its graph, and the largest error of all."""
    runs = [_walk(plan, x) for x in images]
    strides = {name: images[0].size(-1) // value.size(-1) for name, value in runs[0].items()}

    def told(names: Sequence[str]) -> list[dict[str, Any]]:
        return [
            {"name": name, "channels": runs[0][name].size(1), "stride": strides[name]}
            for name in names
        ]

    for step in plan.coding:
        if "latent" in step:
            name = step["latent"]
            plan.latents[name] = {"channels": runs[0][name].size(1), "stride": strides[name]}
    networks: dict[str, Any] = {}
    graphs: dict[str, bytes] = {}
    errors = [0.0]
    for name, network in plan.networks.items():
        networks[name] = {"inputs": told(network.inputs), "outputs": told(network.outputs)}
        path = scratch / f"{name}.onnx"
        errors.append(_export(plan, name, network, runs, path))
        graphs[name] = _with_metadata(path, graph_metadata(named, name))
    return networks, graphs, max(errors)


def _walk(plan: Plan, x: Tensor) -> dict[str, Tensor]:
    """All values that come up while an image is coded, by name."""
    values = {"x": x}
    networks = plan.networks

    def run(name: str) -> None:
        network = networks[name]
        out = network.module(*(values[key] for key in network.inputs))
        values.update(zip(network.outputs, [out] if isinstance(out, Tensor) else out))

    for step in (*plan.analysis, *plan.coding, *plan.synthesis):
        if step["op"] == "run":
            run(step["network"])
        elif step["op"] == "concatenate":
            values[step["output"]] = torch.cat([values[key] for key in step["inputs"]], dim=1)
        elif step["op"] == "scale":
            assert plan.rate is not None
            factor = Rates(plan.rate, plan.arrays).factor(step["factor"], plan.rate["default"])
            limit = step.get("limit", np.inf)
            value = values[step["input"]].clamp(-limit, limit)
            values[step["output"]] = value * torch.from_numpy(factor)
        elif step["op"] == "factorized":
            medians = torch.from_numpy(plan.arrays[step["medians"]])[:, None, None]
            values[step["output"]] = torch.round(values[step["latent"]] - medians) + medians
        else:
            latent = values[step["latent"]]
            begin, end = step["channels"] or (0, latent.size(1))
            means = values[step["means"]] if step["means"] else 0
            out = torch.round(latent[:, begin:end] - means) + means
            if step["correction"]:
                network = networks[step["correction"]]
                values[network.inputs[1]] = out
                run(step["correction"])
                out = values[network.outputs[0]]
            values[step["output"]] = values[step["fine"]] = out
    return values


def _export(
    plan: Plan,
    name: str,
    network: Network,
    runs: Sequence[Mapping[str, Tensor]],
    path: Path,
) -> float:
    """Write a graph, with the exporter of the two that copes with it."""
    examples = {key: runs[0][key] for key in network.inputs}
    kind = type(plan.net).__name__
    problem: Exception | None = None
    error = float("nan")
    for write in (trace_graph, _export_slowly):
        try:
            write(network.module, examples, network.outputs, path)
            error = max(_error(path, network, run) for run in runs)
        except CannotExportError as reason:
            problem = reason
            continue
        # Sums of integers are exact, and so must be what comes of them.
        if error <= (0 if plan.exact and name not in ("g_a", "h_a", "g_s") else _TOLERANCE):
            return error
    if not np.isnan(error):
        raise RuntimeError(
            f"onnxruntime gives other results for {name} of {kind} than torch: they differ by "
            f"{error:.2g}, more than {_TOLERANCE:g}"
        )
    raise ValueError(
        f"{name} of {kind} cannot be exported for images of any size: {problem}"
    ) from problem


def _export_slowly(
    network: nn.Module, inputs: Mapping[str, Tensor], outputs: Sequence[str], path: Path
) -> None:
    export_graph(network, inputs, outputs, path, dynamic=True)


def _error(path: Path, network: Network, values: Mapping[str, Tensor]) -> float:
    try:
        feeds = {key: values[key].numpy() for key in network.inputs}
        results = open_session(path).run(list(network.outputs), feeds)
    except Exception as error:
        # onnxruntime has a class for each cause, and no common one but this.
        raise CannotExportError(first_line(error)) from error
    errors = []
    for key, result in zip(network.outputs, results):
        expected = values[key].numpy()
        if result.shape != expected.shape:
            raise CannotExportError(f"{key} has shape {result.shape}, not {expected.shape}")
        errors.append(float(np.abs(result - expected).max() / max(np.abs(expected).max(), 1)))
    return max(errors)


def _with_metadata(path: Path, metadata: Mapping[str, str]) -> bytes:
    # Of the extra onnx.
    import onnx

    graph = onnx.load(path)
    graph.producer_name = "compressai"
    onnx.helper.set_model_props(graph, dict(metadata))
    # Names of the exporter's source lines; they say where this was done, and make files longer.
    for node in graph.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    return graph.SerializeToString(deterministic=True)
