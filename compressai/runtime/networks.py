# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Networks of a bundle as functions from arrays to arrays, which onnxruntime computes."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

import numpy as np

from compressai.runtime.bundle import Bundle

__all__ = ["Network", "OnnxNetworks", "RememberingNetworks"]

Values = Mapping[str, np.ndarray]


class Network(Protocol):
    """What an engine makes of a graph: from inputs by name to outputs by name."""

    def __call__(self, inputs: Values) -> Values: ...


class OnnxNetworks:
    """The networks of a bundle, loaded when they are first needed.

    Args:
        bundle: has the graphs.
        threads: of one network; ``None`` leaves it to onnxruntime, which takes the cores.

    Raises:
        ImportError: onnxruntime is missing.
    """

    def __init__(self, bundle: Bundle, threads: int | None = None) -> None:
        try:
            # Of an extra; the message says how to get it.
            import onnxruntime
        except ModuleNotFoundError as error:
            raise ImportError(
                "onnxruntime is missing: pip install onnxruntime to code without torch"
            ) from error
        self._bundle, self._onnxruntime = bundle, onnxruntime
        self._options = onnxruntime.SessionOptions()
        self._options.log_severity_level = 4  # what goes wrong is raised, too
        self._options.intra_op_num_threads = threads or 0
        # Those of one network would wait for work at full speed while another one has it.
        self._options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # Memory of the largest image would stay with each network.
        self._options.enable_cpu_mem_arena = False
        self._loaded: dict[str, Callable[[Values], Values]] = {}
        self._lock = threading.Lock()

    def __getitem__(self, name: str) -> Callable[[Values], Values]:
        """A network.

        Raises:
            KeyError: the bundle has no such network.
        """
        with self._lock:
            if name not in self._loaded:
                self._loaded[name] = self._load(name)
            return self._loaded[name]

    def _load(self, name: str) -> Callable[[Values], Values]:
        told = self._bundle.manifest["networks"][name]
        session: Any = self._onnxruntime.InferenceSession(
            self._bundle.network(name), self._options, providers=["CPUExecutionProvider"]
        )
        inputs = [one["name"] for one in told["inputs"]]
        outputs = [one["name"] for one in told["outputs"]]

        def run(values: Values) -> Values:
            return dict(zip(outputs, session.run(outputs, {key: values[key] for key in inputs})))

        return run


class RememberingNetworks:
    """Networks that keep what some of them gave for the same pixels.

    Args:
        networks: by name.
        remembered: names of those, with the single input ``x``.
    """

    def __init__(self, networks: Any, remembered: Collection[str]) -> None:
        self._networks, self._remembered = networks, remembered
        self._known: dict[tuple[str, tuple[int, ...], bytes], Values] = {}

    def __getitem__(self, name: str) -> Callable[[Values], Values]:
        """A network.

        Raises:
            KeyError: the bundle has no such network.
        """
        network: Callable[[Values], Values] = self._networks[name]
        if name not in self._remembered:
            return network

        def run(values: Values) -> Values:
            x = values["x"]
            key = (name, x.shape, hashlib.blake2b(np.ascontiguousarray(x)).digest())
            if key not in self._known:
                self._known[key] = network(values)
            return self._known[key]

        return run
