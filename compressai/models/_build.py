# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Building the model for weights that may come from anybody, in memory that these can account for.

The meta device of torch would show all sizes, too, but the first use of it takes seconds, in which
torch imports a computer algebra system.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.modules import module as torch_modules
from torch.overrides import TorchFunctionMode

__all__ = ["build_and_load", "why_not"]

# How much larger than its weights a model may be: integers load into floats, and there are buffers
# that are computed. How many modules and parameters it may have for each weight.
_EXPANSION, _SLACK = 8, 1 << 24
_PARTS_PER_WEIGHT, _MORE_PARTS = 64, 10_000

_MAKES = frozenset(
    {
        *("empty", "zeros", "ones", "full", "rand", "randn", "randint", "new_empty", "new_zeros"),
        *("new_ones", "new_full", "empty_strided"),
    }
)
_REPEATS = frozenset({"repeat", "tile", "expand", "broadcast_to"})
_RANGES = frozenset({"arange", "linspace", "logspace", "randperm", "hann_window"})
_PAIRS = frozenset({"outer", "ger", "kron", "meshgrid", "cartesian_prod", "cdist"})
_BYTES = 8  # of an element, at most


class _TooLargeError(ValueError):
    pass


def build_and_load(
    make: Callable[[Mapping[str, Tensor]], nn.Module], weights: Mapping[str, Tensor]
) -> nn.Module:
    """Build a model and load weights into it.

    Whatever a file asks for, no more memory is taken than weights of their size can be for, and no
    more modules are made: a larger model is refused while it is built, before the memory is used.

    Args:
        make: builds the model from weights and loads them.
        weights: by name.

    Returns:
        The model.

    Raises:
        ImportError: an optional package is missing.
        ValueError: the weights are not of such a model; says why.
    """
    for name, value in weights.items():
        if not isinstance(name, str):
            raise ValueError(f"names of weights must be strings, not of type {type(name).__name__}")
        # Modules may keep what they like under this name.
        if not isinstance(value, Tensor) and not name.endswith("_extra_state"):
            raise ValueError(
                f"weights must be tensors, but {ascii(name)[:80]} is of type {type(value).__name__}"
            )
    if not weights:
        raise ValueError("it has no weights")
    try:
        with _limits(weights):
            return make(weights)
    except ImportError:
        raise
    # Constructors fail in as many ways as there are arguments that nobody would give them.
    except Exception as error:
        raise ValueError(why_not(error)) from error


@contextmanager
def _limits(weights: Mapping[str, Any]) -> Iterator[None]:
    """Refuse what this thread builds beyond what the weights can be for."""
    claimed = sum(
        value.numel() * value.element_size()
        for value in weights.values()
        if isinstance(value, Tensor)
    )
    limit = _EXPANSION * claimed + _SLACK
    bytes_left, parts_left = limit, _PARTS_PER_WEIGHT * len(weights) + _MORE_PARTS
    thread = threading.get_ident()

    def refuse() -> None:
        raise _TooLargeError(
            f"the model would be much larger than its weights, which are {len(weights)} with "
            f"{claimed} bytes"
        )

    def count(owner: nn.Module, name: str, part: Any) -> None:
        nonlocal bytes_left, parts_left
        if threading.get_ident() != thread:
            return
        parts_left -= 1
        # Parameters of lazy modules have no size yet.
        if isinstance(part, Tensor) and not nn.parameter.is_lazy(part):
            bytes_left -= part.numel() * part.element_size()
        if bytes_left < 0 or parts_left < 0:
            refuse()

    hooks = [
        torch_modules.register_module_module_registration_hook(count),
        torch_modules.register_module_parameter_registration_hook(count),
        torch_modules.register_module_buffer_registration_hook(count),
    ]
    try:
        with _SmallTensors(limit // _BYTES, refuse):
            yield
    finally:
        for hook in hooks:
            hook.remove()


class _SmallTensors(TorchFunctionMode):
    """Calls ``refuse`` instead of making a tensor of more than some number of elements."""

    def __init__(self, most: int, refuse: Callable[[], None]) -> None:
        super().__init__()
        self.most, self.refuse = most, refuse

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if _elements(getattr(func, "__name__", ""), args, kwargs) > self.most:
            self.refuse()
        return func(*args, **kwargs)


def _elements(name: str, args: Any, kwargs: Mapping[str, Any]) -> float:
    """How many elements the result of a function of torch may have, as far as arguments tell."""
    tensors = [value for value in args if isinstance(value, Tensor)]
    if name in _MAKES or name in _REPEATS:
        sizes = [*args[len(tensors) :], *(kwargs[k] for k in ("size", "dims") if k in kwargs)]
        # A fill value, behind a size in brackets, is none.
        if sizes and isinstance(sizes[0], (tuple, list)):
            sizes = list(sizes[0])
        return math.prod(max(1, size) for size in sizes if isinstance(size, int)) * (
            tensors[0].numel() if name in ("repeat", "tile") and tensors else 1
        )
    if name == "eye":
        return math.prod([*args, *args][:2]) if args else 0
    if name in _RANGES:
        numbers = [abs(value) for value in args if isinstance(value, (int, float))]
        step = args[2] if name == "arange" and len(args) > 2 else 1
        return sum(numbers) / abs(step) if step else 0
    if not tensors:
        return 0
    shapes = [tensor.shape for tensor in tensors]
    if name in _PAIRS:
        return math.prod(shape.numel() for shape in shapes)
    if "matmul" in name and len(shapes) > 1:
        return shapes[0].numel() // max(1, shapes[0][-1:].numel()) * max(1, shapes[1][-1:].numel())
    if len(shapes) == 1:
        return shapes[0].numel()
    # As broadcasting has it. (torch.broadcast_shapes takes seconds when it is first called.)
    depth = max(map(len, shapes))
    return math.prod(
        max(shape[-k] for shape in shapes if len(shape) >= k) for k in range(1, depth + 1)
    )


_NAMES = re.compile(r'("[^"]*", "[^"]*", "[^"]*", )((?:"[^"]*", )*"[^"]*")')
_LONGEST = 1000


def why_not(error: BaseException) -> str:
    """What an error says, on one line that can be read: torch lists each of hundreds of weights."""
    if isinstance(error, KeyError):
        text = f"there is no {ascii(error.args[0])[:80] if error.args else 'such entry'}"
    elif isinstance(error, MemoryError) or "allocate memory" in str(error):
        text = "it takes more memory than there is"
    elif isinstance(error, RecursionError):
        text = "it is nested too deep"
    else:
        text = str(error) or type(error).__name__
    text = _NAMES.sub(lambda m: f"{m[1]}... ({3 + m[2].count(', ') + 1} in all)", text)
    text = "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in text)
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
