# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The rules of ``compress`` and ``decompress``, which every model is decorated with.

They hold for the time of a call: no gradients, evaluation mode, full precision, an open coding
session. What a model computes in between is in the model.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.nn as nn
from torch import Tensor

from compressai.entropy_models._refusals import named
from compressai.entropy_models.session import coding_session
from compressai.entropy_models.synchrony import SyncDecoder

if TYPE_CHECKING:
    from compressai.models.base import CompressionModel

__all__ = ["coding"]

Method = TypeVar("Method", bound=Callable[..., Any])


def coding(method: Method) -> Method:
    """Decorate a model's ``compress`` or ``decompress``.

    Inside, there are no gradients (inference mode), the model is in evaluation mode, and tables
    that were never built or loaded are built first. A coding session is open
    (:mod:`compressai.entropy_models.session`), of a synchronised decoder for ``decompress`` with
    ``sync_safe=True``; long strings are written in the background, so what is inside must not look
    at them. What comes out are ordinary tensors.

    The method has ``verify`` or ``latent_hash`` in its signature for its readers only: both are
    done here. ``compress(..., verify=True)`` adds ``"latent_hash"``, a hash for each item, which
    ``decompress(..., latent_hash=...)`` compares with what it decoded: a ValueError tells of plain
    strings that decode otherwise here.

    ``compress(..., effort=2)`` to 9 works longer for better strings of the same format, with
    ``lmbda=`` where the model does not know it:
    :func:`compressai.inference.compress_with_effort`.

    Products are in full precision and without autocast, whatever is switched on around. Images are
    taken in the default layout: in another, kernels round otherwise than those of a decoder, which
    begins with a latent in that one.

    ``decompress`` also takes the ``y_hat`` that ``compress`` gives besides what it takes, without
    effect: code written for CompressAI says ``decompress(**compress(x))``.
    """
    decodes = method.__name__ == "decompress"

    @functools.wraps(method)
    def wrapped(self: CompressionModel, *args: Any, **kwargs: Any) -> Any:
        if decodes:
            kwargs.pop("y_hat", None)
        verify = kwargs.pop("latent_hash", None) if decodes else kwargs.pop("verify", False)
        if not decodes and "effort" in kwargs:
            # By name, so that a rate may be given as without an effort.
            bound = inspect.signature(method).bind_partial(self, *args).arguments
            given = dict(list(bound.items())[2:])
            return _with_effort(self, *args[:1], verify=verify, **given, **kwargs)
        with _evaluation_mode(self), _full_precision(self), named(self):
            with _tables_lock:
                if not self.has_tables:
                    # Outside of inference mode: tables stay, and are moved and loaded into later.
                    self.update()
            steered = decodes and kwargs.get("sync_safe") and self.needs_synchrony
            coder = SyncDecoder() if steered else None
            if not decodes:
                args = _in_default_layout(args)
                kwargs = {key: _in_default_layout(value) for key, value in kwargs.items()}
            with coding_session(coder), torch.inference_mode():
                result = method(self, *args, **kwargs)
            if decodes and verify is not None:
                _check_latent(result, verify)
            elif verify:
                result = {**result, "latent_hash": _latent_hashes(result)}
            return _ordinary(result)

    return wrapped


def _with_effort(net: CompressionModel, *args: Any, verify: bool, **kwargs: Any) -> Any:
    # Losses, which it needs, bring packages that coding does without.
    from compressai.models.effort import compress_with_effort

    # Its passes of the networks come before and after those of compress, under the same rules.
    with _evaluation_mode(net), _full_precision(net):
        result = compress_with_effort(net, *args, **kwargs)
    return {**result, "latent_hash": _latent_hashes(result)} if verify else result


def _ordinary(result: Any) -> Any:
    """The same results with tensors that can take part in training, such as of a predictor."""
    if isinstance(result, Tensor):
        return result.clone() if result.is_inference() else result
    if isinstance(result, dict):
        return {key: _ordinary(value) for key, value in result.items()}
    return type(result)(map(_ordinary, result)) if type(result) in (list, tuple) else result


def _in_default_layout(given: Any) -> Any:
    """The same arguments, with every tensor contiguous."""
    if isinstance(given, Tensor):
        return given if given.is_contiguous() else given.contiguous()
    if type(given) in (list, tuple):
        return type(given)(map(_in_default_layout, given))
    return given


# One for all models: both are held for moments only.
_coding_lock, _tables_lock = threading.Lock(), threading.Lock()


@contextmanager
def _evaluation_mode(net: nn.Module) -> Iterator[None]:
    # Threads that code with one model share one change of mode: the last one takes it back.
    state = vars(net)
    with _coding_lock:
        users, training = state.get("_coding", (0, []))
        if not users:
            training = [module for module in net.modules() if module.training]
            for module in training:
                module.training = False
        state["_coding"] = (users + 1, training)
    try:
        yield
    finally:
        with _coding_lock:
            users, training = state.pop("_coding")
            if users > 1:
                state["_coding"] = (users - 1, training)
            else:
                for module in training:
                    module.training = True


_precision: dict[str, Any] = {"users": 0, "before": ()}


@contextmanager
def _full_precision(net: nn.Module) -> Iterator[None]:
    """While coding, no TF32, no bfloat16 in products of float32, and no autocast.

    Encoder and decoder must compute the same, and the 10 bits of such products are apart by 1e-3
    between machines. The switches are for the process: they are taken back by the last thread that
    needs them. Autocast is of the thread.
    """
    switches = _precision_switches()
    with _coding_lock:
        if not _precision["users"]:
            _precision["before"] = tuple(getattr(*switch) for switch, _ in switches)
            for (backend, name), off in switches:
                setattr(backend, name, off)
        _precision["users"] += 1
    try:
        devices = {"cpu"} | {parameter.device.type for parameter in net.parameters()}
        with ExitStack() as stack:
            for device in devices:
                if torch.is_autocast_enabled(device):
                    stack.enter_context(torch.autocast(device, enabled=False))
            yield
    finally:
        with _coding_lock:
            _precision["users"] -= 1
            if not _precision["users"]:
                for ((backend, name), _), before in zip(switches, _precision["before"]):
                    setattr(backend, name, before)


def _precision_switches() -> list[tuple[tuple[Any, str], Any]]:
    """Attributes, and their values with full precision.

    Torch since 2.9 has new ones, and refuses to read the old ones where the new ones were used.
    """
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    if hasattr(getattr(cudnn, "conv", None), "fp32_precision"):
        mkldnn = torch.backends.mkldnn
        kinds = (cudnn.conv, matmul, mkldnn.conv, mkldnn.matmul)
        return [((kind, "fp32_precision"), "ieee") for kind in kinds]
    return [((cudnn, "allow_tf32"), False), ((matmul, "allow_tf32"), False)]


def _latent_hashes(result: Any) -> list[bytes]:
    """A hash of 16 bytes of each item's ``"y_hat"``, over its values in single precision."""
    if not isinstance(result, dict) or not isinstance(result.get("y_hat"), Tensor):
        raise TypeError("verify needs a model whose compress and decompress give 'y_hat'")
    # Plus 0 makes one zero of both.
    values = (result["y_hat"].detach().to("cpu", torch.float32) + 0).contiguous()
    return [
        hashlib.blake2b(item.numpy().astype("<f4", copy=False).tobytes(), digest_size=16).digest()
        for item in values
    ]


def _check_latent(result: Any, expected: Sequence[bytes]) -> None:
    found = _latent_hashes(result)
    if len(found) != len(expected):
        raise ValueError(f"latent_hash must have {len(found)} entries, got {len(expected)}")
    wrong = [i for i, (a, b) in enumerate(zip(found, expected)) if a != b]
    if wrong:
        raise ValueError(
            f"the latent of item {wrong[0]} is not what was coded: the strings are damaged, are of "
            "other weights, or were coded where networks round otherwise; use sync_safe=True for "
            "strings that decode alike on every machine"
        )
