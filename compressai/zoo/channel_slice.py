# SPDX-License-Identifier: BSD-3-Clause-Clear
"""STF, WACNN, TCM and CCA in the zoo: rate points of the published weights, and lazy classes.

Qualities ascend with the rate. The authors trained with MSE in the units of
:class:`~compressai.losses.RateDistortionLoss`, and CCA with its own loss, whose ``beta`` weights
the rate (``lmbda`` is 0.05 throughout):

=============  ==================  ======  ======  ======  ======  ======  ======  =============
entry          multiplier          1       2       3       4       5       6       7
=============  ==================  ======  ======  ======  ======  ======  ======  =============
``stf``        ``lmbda``           0.0018  0.0035  0.0067  0.0130  0.0250  0.0483
``stf-wacnn``  ``lmbda``           0.0018  0.0035  0.0067  0.0250
``tcm``        ``lmbda``           0.0025  0.0035  0.0067  0.0130  0.0250  0.0500  0.0500, N=128
``cca``        ``beta``            3.5     1.8     0.85    0.3
=============  ==================  ======  ======  ======  ======  ======  ======  =============

TCM has ``N=64`` in the first six. The classes are imported when first used, because they need the
optional package timm.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from compressai.models.base import CompressionModel
from compressai.registry import MODELS

__all__ = ["LAZY_MODELS", "PUBLISHED_POINTS", "LazyModel", "converter_command"]


class LazyModel:
    """Stands for a model class without importing it.

    Calling it and reading attributes (such as ``from_state_dict``) imports the class and goes on
    there.

    Args:
        module: module of the class.
        name: name of the class.
    """

    def __init__(self, module: str, name: str) -> None:
        # As on a class, so that the registry knows it for the same definition.
        self.__module__ = module
        self.__name__ = self.__qualname__ = name

    def load(self) -> type[CompressionModel]:
        """The class.

        Raises:
            ImportError: timm is needed and not installed.
        """
        return getattr(importlib.import_module(self.__module__), self.__name__)

    def __call__(self, *args: Any, **kwargs: Any) -> CompressionModel:
        return self.load()(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.load(), name)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self.load())

    def __repr__(self) -> str:
        return f"<lazy {self.__module__}.{self.__name__}>"


LAZY_MODELS: Mapping[str, LazyModel] = {
    "stf": LazyModel("compressai.models.stf", "SymmetricalTransFormer"),
    "stf-wacnn": LazyModel("compressai.models.stf", "WACNN"),
    "tcm": LazyModel("compressai.models.tcm", "TCM"),
    "cca": LazyModel("compressai.models.cca", "CCAModel"),
}
# Known by name, without rate points in the zoo.
_WITHOUT_POINTS: Mapping[str, LazyModel] = {
    "lic-tcm": LAZY_MODELS["tcm"],
    "dcae": LazyModel("compressai.models.dcae", "DCAE"),
    "saaf": LazyModel("compressai.models.saaf", "SAAF"),
    "mlic": LazyModel("compressai.models.mlic", "MLIC"),
    "mlicplus": LazyModel("compressai.models.mlic", "MLICPlus"),
    "mlicpp": LazyModel("compressai.models.mlic", "MLICPlusPlus"),
    "mlicv2": LazyModel("compressai.models.mlic", "MLICv2"),
}
for _name, _model in {**LAZY_MODELS, **_WITHOUT_POINTS}.items():
    MODELS.setdefault(_name, _model)


def _points(name: str, *multipliers: float, **constants: Any) -> dict[int, dict[str, Any]]:
    return {
        quality: {**constants, name: multiplier}
        for quality, multiplier in enumerate(multipliers, start=1)
    }


# Constructor arguments, and weights of the loss, by entry and quality.
PUBLISHED_POINTS: Mapping[str, Mapping[int, Mapping[str, Any]]] = {
    "stf": _points("lmbda", 0.0018, 0.0035, 0.0067, 0.0130, 0.0250, 0.0483),
    "stf-wacnn": _points("lmbda", 0.0018, 0.0035, 0.0067, 0.0250),
    "tcm": {
        **_points("lmbda", 0.0025, 0.0035, 0.0067, 0.0130, 0.0250, 0.0500, N=64),
        7: {"N": 128, "lmbda": 0.0500},
    },
    "cca": _points("beta", 3.5, 1.8, 0.85, 0.3, lmbda=0.05),
}


def converter_command(architecture: str, metric: str, quality: int) -> str:
    """What to type to make an authors' checkpoint known to the zoo."""
    source = architecture.removeprefix("stf-")
    return (
        f"compressai convert --from {source} --install --quality {quality} "
        f"--metric {metric} CHECKPOINT"
    )
