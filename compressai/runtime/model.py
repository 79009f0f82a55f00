# SPDX-License-Identifier: BSD-3-Clause-Clear
"""A model that codes as its bundle says, on arrays."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from compressai import _CXX, ans
from compressai.entropy_models._grid import (
    DEFAULT_TOLERANCE,
    Levels,
    Planner,
    PreparedScales,
    decode_symbols,
    settle,
    values_of,
    write_plans,
)
from compressai.entropy_models._interleaving import interleaves
from compressai.runtime.bundle import Bundle, BundleError
from compressai.runtime.networks import OnnxNetworks, RememberingNetworks
from compressai.runtime.rates import Rates

__all__ = ["RuntimeModel", "Table"]

Values = dict[str, np.ndarray]
# Parameters beyond it are of a broken network, as for torch's entropy models.
_LIMIT = 2.0**24
# Of bundles that do not tell.
_BYTES_A_PIXEL = 2**9


class Table:
    """A table of a bundle in native form.

    Args:
        bundle: has the arrays.
        name: of the table.

    Raises:
        BundleError: the table is damaged.
    """

    def __init__(self, bundle: Bundle, name: str) -> None:
        told = bundle.manifest["tables"][name]
        try:
            self.tables = ans.CdfTables(
                *(bundle.array(told[key]) for key in ("cdfs", "lengths", "offsets"))
            )
            self.rows = len(bundle.array(told["lengths"]))
            if "scales" in told:
                self.scales = PreparedScales(bundle.array(told["scales"]), 0)
                self.scales.first = told["first"]
                rows, native = self.scales.levels
                self.levels = Levels(rows, native, self.tables)
                if not np.array_equal(rows, bundle.array(told["levels"])):
                    raise ValueError("its levels are not those of this version")
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"{bundle.name} is damaged: table {name}: {error}") from error


class RuntimeModel:
    """A model in a bundle, ready to code; without torch.

    Several threads may use one.

    Args:
        bundle: the model, or the file that it is in.
        threads: of one network; ``None`` leaves it to onnxruntime, which takes the cores.
        networks: what runs the networks, by name; ``None`` takes onnxruntime.

    Attributes:
        bundle: the model.
        rates: its qualities if it is of variable rate, else ``None``.

    Raises:
        BundleError: the file is no bundle, damaged, or of another version.
        ImportError: onnxruntime is missing.
        OSError: the file cannot be read.
    """

    def __init__(
        self,
        bundle: Bundle | str | Path,
        *,
        threads: int | None = None,
        networks: Mapping[str, Callable[[Mapping[str, np.ndarray]], Any]] | None = None,
    ) -> None:
        self.bundle = bundle if isinstance(bundle, Bundle) else Bundle.read(bundle)
        manifest = self.bundle.manifest
        self._networks: Any = networks or OnnxNetworks(self.bundle, threads)
        self._tables = {name: Table(self.bundle, name) for name in manifest["tables"]}
        self._arrays: dict[str, np.ndarray] = {}
        self.rates = self._read_rates(manifest.get("rate"))

    def _read_rates(self, told: Mapping[str, Any] | None) -> Rates | None:
        if told is None:
            return None
        try:
            keys = ("middle", "steps", "values")
            names = [f[key] for f in told["factors"].values() for key in keys if key in f]
            return Rates(told, {name: self.array(name) for name in names})
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise BundleError(f"{self.bundle.name} is damaged: rate: {error}") from error

    @property
    def multiple(self) -> int:
        """What the sides of a tile must be multiples of."""
        return self.bundle.manifest["multiple"]

    @property
    def bytes_a_pixel(self) -> int:
        """About how many bytes coding takes for each pixel of a tile."""
        return int(self.bundle.manifest.get("bytes_a_pixel", _BYTES_A_PIXEL))

    @property
    def identity(self) -> SimpleNamespace:
        """``model``, ``quality``, ``metric`` and ``random_weights``, as files tell them.

        ``weights`` is nothing: bundles do not tell the file that they were made of.
        """
        names = ("model", "quality", "metric", "random_weights")
        return SimpleNamespace(**{name: self.bundle.manifest[name] for name in names}, weights="")

    @property
    def quality_range(self) -> tuple[float, float] | None:
        """Lowest and highest quality of a scale; ``None`` where not all between them is there."""
        if self.rates is None or self.rates.whole:
            return None
        return self.rates.low, self.rates.high

    @property
    def levels(self) -> int | None:
        """Number of rates of a model that has so many, its qualities from 1; else ``None``."""
        return len(self.rates.nodes) if self.rates is not None and self.rates.whole else None

    def remembering(self) -> RuntimeModel:
        """A twin that analyses each tile once, to code one image at several qualities."""
        twin = copy.copy(self)
        inputs = {
            name: [one["name"] for one in told["inputs"]]
            for name, told in self._told_networks.items()
        }
        analyses = [name for name, names in inputs.items() if names == ["x"]]
        twin._networks = RememberingNetworks(self._networks, analyses)
        return twin

    @property
    def exact(self) -> bool:
        """Whether strings are plain and decode alike everywhere."""
        return self.bundle.manifest["exact"]

    def _quality(self, quality: float | None) -> float | None:
        if self.rates is None:
            if quality is not None:
                raise ValueError(f"quality must be None: {self.bundle.name} has one rate")
            return None
        return self.rates.check(self.rates.default if quality is None else float(quality))

    def compress(
        self,
        x: np.ndarray,
        *,
        quality: float | None = None,
        tolerance: float = DEFAULT_TOLERANCE,
    ) -> dict[str, Any]:
        """Code a tile.

        Args:
            x: float32 ``(1, 3, H, W)`` in [0, 1]; sides are multiples of :attr:`multiple`.
            quality: of a bundle of variable rate, ``None`` is its default; else ``None``.
            tolerance: see :class:`~compressai.entropy_models.synchrony.SyncEncoder`.

        Returns:
            ``{"strings": one a step, in the order of a ``.cai`` file, "y_hat"}``.

        Raises:
            ValueError: sides do not fit, what comes of ``x`` is not finite, or there is no such
                quality.
        """
        rate = self._quality(quality)
        if x.ndim != 4 or x.shape[:2] != (1, 3) or any(n % self.multiple for n in x.shape[2:]):
            raise ValueError(
                f"x must be (1, 3, H, W) with sides that are multiples of {self.multiple}, got "
                f"{x.shape}"
            )
        values: Values = {"x": np.ascontiguousarray(x, dtype=np.float32)}
        self._run(self.bundle.manifest["analysis"], values, rate)
        encoder = _Encoder(self, tolerance, rate)
        self._run(self.bundle.manifest["coding"], values, rate, encoder)
        return {"strings": encoder.strings(), "y_hat": values["y_hat"]}

    def decompress(
        self,
        strings: Sequence[bytes | None],
        height: int,
        width: int,
        *,
        quality: float | None = None,
    ) -> dict[str, np.ndarray]:
        """Decode a tile.

        Args:
            strings: one a step, in the order of a ``.cai`` file; ``None`` for one that is lost.
            height, width: of the padded tile, multiples of :attr:`multiple`.
            quality: what :meth:`compress` got.

        Returns:
            ``{"x_hat": float32 (1, 3, H, W) in [0, 1], "y_hat"}``.

        Raises:
            ValueError: a string is damaged, what comes of it is not finite, or there is no such
                quality.
        """
        rate = self._quality(quality)
        count = self.bundle.manifest["strings"]
        if len(strings) != count:
            raise ValueError(f"strings must be {count}, got {len(strings)}")
        if height % self.multiple or width % self.multiple:
            raise ValueError(
                f"height and width must be multiples of {self.multiple}, got {height} x {width}"
            )
        values: Values = {}
        decoder = _Decoder(self, strings, height, width)
        self._run(self.bundle.manifest["coding"], values, rate, decoder)
        self._run(self.bundle.manifest["synthesis"], values, rate)
        x_hat = values["x_hat"]
        return {"x_hat": np.clip(x_hat, 0, 1, out=x_hat), "y_hat": values["y_hat"]}

    def _run(
        self,
        steps: Sequence[Mapping[str, Any]],
        values: Values,
        rate: float | None,
        coder: Any = None,
    ) -> None:
        for step in steps:
            operation = step["op"]
            if operation == "run":
                values.update(self._networks[step["network"]](values))
            elif operation == "concatenate":
                parts = [values[name] for name in step["inputs"]]
                values[step["output"]] = np.concatenate(parts, axis=1)
            elif operation == "scale" and self.rates is not None and rate is not None:
                factor = self.rates.factor(step["factor"], rate)
                value, limit = values[step["input"]], step.get("limit")
                value = value if limit is None else value.clip(-limit, limit)
                values[step["output"]] = value * factor
            elif operation in ("factorized", "gaussian") and coder is not None:
                getattr(coder, operation)(step, values)
            else:
                raise BundleError(f"{self.bundle.name} has a step {operation!r} that is not known")

    @cached_property
    def _told_networks(self) -> Mapping[str, Any]:
        return self.bundle.manifest["networks"]

    def table(self, name: str) -> Table:
        """A table by its name."""
        return self._tables[name]

    def array(self, name: str) -> np.ndarray:
        """An array of the bundle."""
        if name not in self._arrays:
            self._arrays[name] = self.bundle.array(name)
        return self._arrays[name]

    def guards(self, name: str | None, rate: float | None) -> np.ndarray | None:
        """What guards of the channels of a latent are, over the tolerance; ``None`` for none."""
        if name is None:
            return None
        found = self.array(name)
        return found if self.rates is None or rate is None else self.rates.guards(found, rate)

    def correct(self, step: Mapping[str, Any], symbols: np.ndarray, values: Values) -> Any:
        """What symbols stand for; ``None`` if for themselves."""
        restored = symbols
        if step["means"] is not None:
            restored = symbols + values[step["means"]]
        if step["correction"] is None:
            return None if step["means"] is None else restored
        name = step["correction"]
        params, place = (one["name"] for one in self._told_networks[name]["inputs"])
        (output,) = (one["name"] for one in self._told_networks[name]["outputs"])
        return self._networks[name]({params: values[params], place: restored})[output]


class _Coder:
    """One run of the steps that code.

    Args:
        model: whose steps.
    """

    def __init__(self, model: RuntimeModel) -> None:
        self.model = model

    def predicted(self, step: Mapping[str, Any], values: Values) -> np.ndarray:
        """The scales of a step.

        Raises:
            ValueError: they or the means are not finite or too large.
        """
        for name in (step["scales"], step["means"]):
            # Without an array of booleans, or of magnitudes.
            if (
                name is not None
                and not -_LIMIT <= values[name].min() <= values[name].max() <= _LIMIT
            ):
                raise ValueError(f"{name} must be finite and below 2^24: the network is broken")
        return values[step["scales"]]

    def rows_of_channels(self, shape: Sequence[int]) -> np.ndarray:
        """Table rows of a latent with a row a channel: int32 ``(1, elements)``."""
        _, channels, height, width = shape
        return np.arange(channels, dtype=np.int32).repeat(height * width)[None]

    def settled(
        self, step: Mapping[str, Any], symbols: np.ndarray, values: Values
    ) -> tuple[np.ndarray | None, np.ndarray]:
        """What symbols stand for, ``None`` if for themselves, and what networks see of it."""
        symbols = symbols.astype(np.float32)
        restored = self.model.correct(step, symbols, values)
        return restored, symbols if restored is None else restored


class _Encoder(_Coder):
    def __init__(self, model: RuntimeModel, tolerance: float, rate: float | None) -> None:
        super().__init__(model)
        self._tolerance, self._rate = tolerance, rate
        self._strings: dict[int, bytes] = {}

    def strings(self) -> list[bytes]:
        return [self._strings[number] for number in sorted(self._strings)]

    def factorized(self, step: Mapping[str, Any], values: Values) -> None:
        medians = self.model.array(step["medians"])[:, None, None]
        symbols = _rounded(values[step["latent"]] - medians, step["latent"])
        rows = self.rows_of_channels(symbols.shape)
        self._strings[step["string"]] = self._write(symbols, rows, self.model.table(step["table"]))
        values[step["output"]] = symbols.astype(np.float32) + medians

    def gaussian(self, step: Mapping[str, Any], values: Values) -> None:
        scales = self.predicted(step, values)
        latent = values[step["latent"]]
        if step["channels"] is not None:
            latent = latent[:, slice(*step["channels"])]
        means = None if step["means"] is None else values[step["means"]]
        symbols = _rounded(latent if means is None else latent - means, step["latent"])
        if dead_zone := step.get("dead_zone", 0.0):
            rows = [None if v is None else v.reshape(1, -1) for v in (latent, means, scales)]
            symbols = _CXX.dead_zone_symbols(*rows, dead_zone).reshape(latent.shape)
        restored, fine = self.settled(step, symbols, values)
        table, output = self.model.table(step["table"]), fine
        if self.model.exact:
            rows = _rows(scales, table)
            string = self._write(symbols, rows, table)
        else:
            gains = {
                key: self.model.guards(name, self._rate) for key, name in step["gains"].items()
            }
            planner = Planner(table.levels, gains["scales"], gains["values"], self._tolerance)
            plan = planner.plan(_flat(scales)[0], None if restored is None else _flat(restored)[0])
            (string,) = write_plans(_flat(symbols), [plan], table.tables, interleaves())
            if restored is not None:
                output = values_of([plan.steps]).reshape(fine.shape)
        self._strings[step["string"]] = string
        values[step["output"]], values[step["fine"]] = output, fine

    def _write(self, symbols: np.ndarray, rows: np.ndarray, table: Table) -> bytes:
        (string,) = ans.encode_batch(
            symbols.reshape(1, -1), rows, table.tables, threads=1, interleave=interleaves()
        )
        return string


class _Decoder(_Coder):
    def __init__(
        self, model: RuntimeModel, strings: Sequence[bytes | None], height: int, width: int
    ) -> None:
        super().__init__(model)
        self._strings, self._height, self._width = strings, height, width

    def factorized(self, step: Mapping[str, Any], values: Values) -> None:
        told = self.model.bundle.manifest["latents"][step["latent"]]
        sides = (side // told["stride"] for side in (self._height, self._width))
        shape = (1, told["channels"], *sides)
        symbols = self._read(step, self.rows_of_channels(shape)).reshape(shape)
        medians = self.model.array(step["medians"])[:, None, None]
        values[step["output"]] = symbols.astype(np.float32) + medians

    def gaussian(self, step: Mapping[str, Any], values: Values) -> None:
        scales = self.predicted(step, values)
        table = self.model.table(step["table"])
        roundings: Any = None
        if self.model.exact:
            symbols = self._read(step, _rows(scales, table))
        else:
            strings = [self._strings[step["string"]]]
            symbols, roundings = decode_symbols(strings, _flat(scales), table.levels)
        restored, fine = self.settled(step, symbols.reshape(scales.shape), values)
        output = fine
        if roundings is not None and restored is not None:
            output = settle(_flat(restored), roundings).reshape(fine.shape)
        values[step["output"]], values[step["fine"]] = output, fine

    def _read(self, step: Mapping[str, Any], rows: np.ndarray) -> np.ndarray:
        string = self._strings[step["string"]]
        if string is None:
            return np.zeros_like(rows)
        tables = self.model.table(step["table"]).tables
        return ans.decode_batch([string], rows, tables, threads=1, check_end=True)


def _rows(scales: np.ndarray, table: Table) -> np.ndarray:
    """The first row whose scale is not smaller, else the last: int32 ``(1, elements)``."""
    flat = np.ascontiguousarray(scales).reshape(-1)
    return _CXX.table_rows(flat, table.scales.native, table.scales.first)[None]


def _rounded(residual: np.ndarray, name: str) -> np.ndarray:
    """Symbols of residuals, int32.

    Raises:
        ValueError: they are no int32.
    """
    # One of them is so if all of them are not.
    if not -(2.0**31) <= residual.min() <= residual.max() < 2.0**31:
        raise ValueError(f"{name} must be finite and fit int32 to be coded")
    return np.rint(residual).astype(np.int32)


def _flat(values: np.ndarray) -> np.ndarray:
    """``(N, C, P)``, contiguous."""
    return np.ascontiguousarray(values).reshape(*values.shape[:2], -1)
