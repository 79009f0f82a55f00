# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Where the time of coding goes."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from torch import nn

from compressai.entropy_models import EntropyModel, session

__all__ = ["STAGES", "split_time"]

STAGES = ("g_a", "h_a", "h_s", "contexts", "coder", "g_s", "other")

# What starts like these, and members of lists that do, are contexts.
_CONTEXTS = (
    *("channel_context", "context_", "entropy_parameters", "lrp_", "cc_mean_", "cc_scale_"),
    *("mean_support_", "scale_support_", "spatial_context_", "intra_channel_", "selective_"),
    *("adaptor_", "prior_", "attn_s"),
)
_CODING = ("build_indexes", "code", "compress", "compress_and_quantize", "decompress")
# Of entropy models that are synchronised: coders do not go by other methods that are replaced.
_SYNCHRONISED = ("code", "decode")


def split_time(
    net: nn.Module,
    function: Callable[[], Any],
    clock: Callable[[], float] = time.perf_counter,
    sync_safe: bool = False,
) -> dict[str, float]:
    """Seconds that a call spends in each stage of a model.

    ``contexts`` are the networks that predict distributions and residuals, ``coder`` is all that
    entropy models do: symbols, table rows, strings. Strings are written at once here, which
    otherwise may be done in the background. What sequential models do position by position counts
    as ``other``.

    Args:
        net: the model, also a prepared one.
        function: codes with it.
        clock: seconds at this moment.
        sync_safe: whether it codes in synchrony.
    """
    seconds: dict[str, float] = defaultdict(float)
    stack: list[str] = ["other"]
    last = clock()

    def switch() -> None:
        """Count the time since the last switch for the stage that was on."""
        nonlocal last
        now = clock()
        seconds[stack[-1]] += now - last
        last = now

    def timed(stage: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            switch()
            stack.append(stage)
            try:
                return call(*args, **kwargs)
            finally:
                switch()
                stack.pop()

        return wrapped

    with _replaced(net, timed, sync_safe), patch.object(session, "_MIN_SYMBOLS", sys.maxsize):
        function()
    switch()
    return {stage: seconds[stage] for stage in STAGES}


@contextmanager
def _replaced(
    net: nn.Module,
    timed: Callable[[str, Callable[..., Any]], Callable[..., Any]],
    sync_safe: bool,
) -> Iterator[None]:
    """Let the parts of a model be called through ``timed``."""
    undo: list[tuple[dict[str, Any], str, Any]] = []

    def replace(owner: Any, name: str, stage: str) -> None:
        # Past nn.Module, which would register or refuse it.
        undo.append((vars(owner), name, vars(owner).get(name)))
        vars(owner)[name] = timed(stage, getattr(owner, name))

    for name in ("g_a", "g_s"):
        replace(net, name, name)
    for name, module in net.named_modules():
        stage = _stage(name)
        if stage is not None:
            replace(module, "forward", stage)
        if isinstance(module, EntropyModel):
            for method in _SYNCHRONISED if sync_safe and hasattr(module, "code") else _CODING:
                if hasattr(module, method):
                    replace(module, method, "coder")
    try:
        yield
    finally:
        for attributes, name, before in undo:
            if before is None:
                del attributes[name]
            else:
                attributes[name] = before


def _stage(name: str) -> str | None:
    *parents, last = name.split(".")
    if last in ("h_a", "h_s"):
        return last
    inside = last if not last.isdigit() and last != "channel_context" else ""
    if parents and (last.isdigit() or parents[-1] == "channel_context"):
        inside = parents[-1]
    return "contexts" if inside.startswith(_CONTEXTS) else None
