# SPDX-License-Identifier: BSD-3-Clause-Clear
"""A whole model as a bundle, for programs that code without torch.

What each network does is told by the model's own modules. What happens between them, the order of
coding, is told as data; the format is in ``docs/bundle.md``.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from compressai.bitstream._memory import coding_bytes
from compressai.bitstream.hashes import fingerprint
from compressai.entropy_models import EntropyBottleneck, GaussianConditional
from compressai.entropy_models.synchrony import DEFAULT_TOLERANCE, SLOPE, STEP
from compressai.inference._bundle_networks import (
    Correction,
    Function,
    HyperAnalysis,
    Leaf,
    Parameters,
    Slice,
)
from compressai.inference._onnx import (
    CannotExportError,
    export_graph,
    first_line,
    import_onnx,
    open_session,
    trace_graph,
)
from compressai.inference.transforms import check_model, fold_gdn, probe_image
from compressai.latent_codecs import (
    ChannelGroupsLatentCodec,
    EntropyBottleneckLatentCodec,
    GaussianConditionalLatentCodec,
    HyperLatentCodec,
    HyperpriorLatentCodec,
    LRPGaussianLatentCodec,
)
from compressai.models import CompressionModel
from compressai.models.base import SimpleVAECompressionModel
from compressai.models.google import FactorizedPrior, ScaleHyperprior
from compressai.registry import ENTRIES
from compressai.runtime.bundle import write_bundle
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
        net: model in evaluation mode: a factorized prior, a hyperprior without spatial context, or
            a model of channel slices.
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
    plan = _Plan(copied)
    image = probe_image(copied)
    side = image.size(-1)
    generator = torch.Generator().manual_seed(0)
    # Sides that differ, so that none is taken for the other.
    images = [
        torch.rand(1, 3, height * side, width * side, generator=generator)
        for height, width in ((2, 3), (3, 1))
    ]
    with tempfile.TemporaryDirectory() as scratch, torch.no_grad():
        told, graphs, error = _export_networks(plan, images, Path(scratch), _metadata(reference))
    write_bundle(
        path,
        {
            "library": f"compressai {__version__}",
            **_identity(reference),
            "fingerprints": {str(v): fingerprint(reference, v).hex() for v in (1, 2)},
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


def _metadata(net: CompressionModel) -> dict[str, str]:
    """What every graph says about itself."""
    texts = {key: "" if value is None else str(value) for key, value in _identity(net).items()}
    return {**texts, "fingerprint": fingerprint(net).hex(), "library": f"compressai {__version__}"}


# -- the plan ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Network:
    """A network of the plan: from values by name to values by name."""

    module: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass
class _Plan:
    """How a model codes, as data.

    Raises:
        ValueError: there are no words for it.
    """

    net: CompressionModel
    networks: dict[str, _Network] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    tables: dict[str, Any] = field(default_factory=dict)
    latents: dict[str, Any] = field(default_factory=dict)
    analysis: list[dict[str, Any]] = field(default_factory=list)
    coding: list[dict[str, Any]] = field(default_factory=list)
    synthesis: list[dict[str, Any]] = field(default_factory=list)
    strings: int = 0
    exact: bool = False

    def __post_init__(self) -> None:
        net = self.net
        self.exact = not net.needs_synchrony
        self.run(self.analysis, "g_a", net.g_a, ["x"], ["y"])
        if _codes_like(net, FactorizedPrior):
            self.factorized("y", net.entropy_bottleneck, "y_hat")
            fine = "y_hat"
        elif _codes_like(net, ScaleHyperprior):
            if type(net)._code_y is not ScaleHyperprior._code_y:
                raise _no_words(net, "it codes position by position")
            fine = self.scale_hyperprior(net)
        elif _codes_like(net, SimpleVAECompressionModel) and isinstance(
            net.latent_codec, HyperpriorLatentCodec
        ):
            fine = self.hyperprior(net, net.latent_codec)
        else:
            raise _no_words(net, "its class codes in a way of its own")
        self.run(self.synthesis, "g_s", net.g_s, [fine], ["x_hat"])

    def run(
        self,
        steps: list[dict[str, Any]],
        name: str,
        module: nn.Module | Callable[..., Any],
        inputs: Sequence[str],
        outputs: Sequence[str],
    ) -> None:
        """Append a network to steps."""
        if not isinstance(module, nn.Module):
            module = Function(self.net, module)
        self.networks[name] = _Network(module, tuple(inputs), tuple(outputs))
        steps.append({"op": "run", "network": name})

    def factorized(self, latent: str, bottleneck: EntropyBottleneck, output: str) -> None:
        """Append the coding of a latent with a factorized prior."""
        self.arrays[f"{latent}.medians"] = bottleneck.quantiles[:, 0, 1].detach().numpy().copy()
        self.tables[latent] = self._table(latent, _native(bottleneck))
        self.coding.append(
            {
                "op": "factorized",
                "latent": latent,
                "string": self._next_string(),
                "table": latent,
                "medians": f"{latent}.medians",
                "output": output,
            }
        )

    def scale_hyperprior(self, net: ScaleHyperprior) -> str:
        self.run(self.analysis, "h_a", HyperAnalysis(net), ["y"], ["z"])
        self.factorized("z", net.entropy_bottleneck, "z_hat")
        has_means = net._split_parameters(torch.zeros(1, 2, 1, 1))[1] is not None
        outputs = ["scales", "means"] if has_means else ["scales"]
        self.run(self.coding, "h_s", Parameters(net), ["z_hat"], outputs)
        self.gaussian(net.gaussian_conditional, outputs, output="y_hat", fine="y_fine")
        return "y_fine"

    def hyperprior(self, net: CompressionModel, codec: HyperpriorLatentCodec) -> str:
        side = codec.hyper if codec._side == "hyper" else codec.z
        hyper = side if isinstance(side, HyperLatentCodec) else codec
        if not isinstance(side, (HyperLatentCodec, EntropyBottleneckLatentCodec)):
            raise _no_words(net, f"its side information is coded by {type(side).__name__}")
        self.run(self.analysis, "h_a", hyper.h_a, ["y"], ["z"])
        self.factorized("z", side.entropy_bottleneck, "z_hat")
        self.run(self.coding, "h_s", hyper.h_s, ["z_hat"], ["side"])
        if isinstance(codec.y, ChannelGroupsLatentCodec):
            return self.slices(net, codec.y)
        self.leaf(net, codec.y, Leaf(codec.y), "", ["side"])
        return "y_fine"

    def slices(self, net: CompressionModel, codec: ChannelGroupsLatentCodec) -> str:
        count = len(codec.groups)
        for k in range(count):
            # What it selects is told by the very list that it gets.
            earlier = [torch.empty(0) for _ in range(k)]
            chosen = codec._select_support(k, earlier)
            seen = [i for i in range(k) if any(earlier[i] is one for one in chosen)]
            begin, end = codec.groups_acc[k : k + 2]
            inputs = ["side", *(f"y_hat_{i}" for i in seen)]
            leaf = codec.latent_codec[f"y{k}"]
            self.leaf(net, leaf, Slice(codec, k, seen), f"_{k}", inputs, (begin, end))
        for name in ("y_hat", "y_fine"):
            parts = [f"{name}_{k}" for k in range(count)]
            self.coding.append({"op": "concatenate", "inputs": parts, "output": name})
        return "y_fine"

    def leaf(
        self,
        net: CompressionModel,
        codec: nn.Module,
        context: nn.Module,
        suffix: str,
        inputs: Sequence[str],
        channels: tuple[int, int] | None = None,
    ) -> None:
        """Append a leaf codec: its context, and the coding with what that predicts."""
        if not isinstance(codec, GaussianConditionalLatentCodec):
            raise _no_words(net, f"its latent is coded by {type(codec).__name__}")
        names = [f"scales{suffix}"]
        if "means" in codec.chunks:
            names.append(f"means{suffix}")
        corrects = isinstance(codec, LRPGaussianLatentCodec)
        outputs = [*names, *([f"params{suffix}"] if corrects else [])]
        self.run(self.coding, f"context{suffix}", context, inputs, outputs)
        correction = f"correction{suffix}" if corrects else None
        self.gaussian(
            codec.gaussian_conditional,
            names,
            output=f"y_hat{suffix}",
            fine=f"y_fine{suffix}",
            channels=channels,
            correction=correction,
        )
        if correction:
            self.networks[correction] = _Network(
                Correction(codec),
                (f"params{suffix}", f"values{suffix}"),
                (f"corrected{suffix}",),
            )

    def gaussian(
        self,
        conditional: GaussianConditional,
        predicted: Sequence[str],
        *,
        output: str,
        fine: str,
        channels: tuple[int, int] | None = None,
        correction: str | None = None,
    ) -> None:
        """Append the coding of a latent, or some of its channels, with predicted scales."""
        if type(conditional) is not GaussianConditional:
            raise _no_words(self.net, f"{type(conditional).__name__} is not the plain one")
        scales, *means = predicted
        self.coding.append(
            {
                "op": "gaussian",
                "latent": "y",
                "channels": None if channels is None else list(channels),
                "string": self._next_string(),
                "table": self._gaussian_table(conditional),
                "scales": scales,
                "means": means[0] if means else None,
                "correction": correction,
                "gains": None if self.exact else self._gains(),
                "output": output,
                "fine": fine,
            }
        )

    def _next_string(self) -> int:
        self.strings += 1
        return self.strings - 1

    def _gains(self) -> dict[str, str | None]:
        """Arrays of what the next latent's deviations can be, over those of one network."""
        if self.net._sync_gains is None:
            self.net.compress(probe_image(self.net), sync_safe=True)
        number = sum(name.endswith(".gain_scales") for name in self.arrays)
        gain = self.net._sync_gains[2][number]
        found = {"scales": gain.scales, "values": gain.values}
        names: dict[str, str | None] = {}
        for key, values in found.items():
            names[key] = None if values is None else f"y_{number}.gain_{key}"
            if values is not None:
                self.arrays[f"y_{number}.gain_{key}"] = values.numpy().copy()
        return names

    def _gaussian_table(self, conditional: GaussianConditional) -> str:
        prepared = conditional._scales()
        arrays = {**_native(conditional), "scales": prepared.table, "levels": prepared.levels[0]}
        for name, table in self.tables.items():
            # Slices have one table, as a rule.
            if table.keys() >= arrays.keys() and all(
                np.array_equal(self.arrays[table[key]], array) for key, array in arrays.items()
            ):
                return name
        name = "y" if "y" not in self.tables else f"y_{len(self.tables)}"
        self.tables[name] = {**self._table(name, arrays), "first": prepared.first}
        return name

    def _table(self, name: str, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Keep arrays of a table, and give their names."""
        self.arrays.update({f"{name}.{key}": np.array(array) for key, array in arrays.items()})
        return {key: f"{name}.{key}" for key in arrays}


def _native(model: Any) -> dict[str, np.ndarray]:
    """The tables of an entropy model."""
    return {
        "cdfs": model._quantized_cdf.to(torch.int32).numpy().copy(),
        "lengths": model._cdf_length.to(torch.int32).reshape(-1).numpy().copy(),
        "offsets": model._offset.to(torch.int32).reshape(-1).numpy().copy(),
    }


def _codes_like(net: nn.Module, family: type) -> bool:
    """Whether a model is of a family and its class codes as that does."""
    names = ("compress", "decompress", "_code_latent", "_decode_latent")
    return isinstance(net, family) and all(
        getattr(type(net), name) is getattr(family, name) for name in names
    )


def _no_words(net: nn.Module, why: str) -> ValueError:
    return ValueError(
        f"{type(net).__name__} cannot be written as a bundle: {why}; bundles are for factorized "
        "priors, hyperpriors, and slices with a Gaussian each"
    )


# -- graphs ----------------------------------------------------------------------------------------


def _export_networks(
    plan: _Plan, images: Sequence[Tensor], scratch: Path, metadata: Mapping[str, str]
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
        graphs[name] = _with_metadata(path, {**metadata, "network": name})
    return networks, graphs, max(errors)


def _walk(plan: _Plan, x: Tensor) -> dict[str, Tensor]:
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
    plan: _Plan,
    name: str,
    network: _Network,
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
        f"{name} of {kind} cannot be exported for pictures of any size: {problem}"
    ) from problem


def _export_slowly(
    network: nn.Module, inputs: Mapping[str, Tensor], outputs: Sequence[str], path: Path
) -> None:
    export_graph(network, inputs, outputs, path, dynamic=True)


def _error(path: Path, network: _Network, values: Mapping[str, Tensor]) -> float:
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
