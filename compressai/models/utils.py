# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Small helpers for model files: strided convolutions, blurring, modules and buffers by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from compressai.layers.resampling import conv, deconv

__all__ = [
    "conv",
    "deconv",
    "find_named_buffer",
    "find_named_module",
    "gaussian_blur",
    "gaussian_kernel1d",
    "gaussian_kernel2d",
    "meshgrid2d",
    "remap_old_keys",
    "update_registered_buffers",
]

_LEGACY_LISTS = (("_matrix", "matrices."), ("_bias", "biases."), ("_factor", "factors."))


def find_named_module(module: nn.Module, query: str) -> nn.Module | None:
    """The descendant of ``module`` whose name is ``query``, or ``None``."""
    return dict(module.named_modules()).get(query)


def find_named_buffer(module: nn.Module, query: str) -> Tensor | None:
    """The buffer of ``module`` or a descendant whose name is ``query``, or ``None``."""
    return dict(module.named_buffers()).get(query)


def update_registered_buffers(
    module: nn.Module,
    module_name: str,
    buffer_names: Sequence[str],
    state_dict: Mapping[str, Tensor],
    policy: str = "resize_if_empty",
    dtype: torch.dtype = torch.int,
) -> None:
    """Give buffers the sizes that they have in a state dict, before it is loaded.

    Loading into this library's entropy models does so by itself; this is for other modules.

    Args:
        module: owner of the buffers.
        module_name: its name in ``state_dict``.
        buffer_names: names of buffers of ``module`` or, as in ``"entropy_bottleneck._offset"``, of
            its descendants.
        state_dict: where the sizes are taken from.
        policy: ``"resize_if_empty"``, ``"resize"``, or ``"register"`` for buffers that do not
            exist yet.
        dtype: type of buffers that are registered.

    Raises:
        ValueError: unknown buffer or policy.
        RuntimeError: a buffer does not exist, or with ``"register"`` exists already or has no
            owner.
    """
    valid = [name for name, _ in module.named_buffers()]
    for name in buffer_names:
        if policy != "register" and name not in valid:
            raise ValueError(f"{module_name} has no buffer {name!r}, but {valid}")
    for name in buffer_names:
        key = f"{module_name}.{name}" if module_name else name
        _update_registered_buffer(module, name, key, state_dict, policy, dtype)


def _update_registered_buffer(
    module: nn.Module,
    buffer_name: str,
    state_dict_key: str,
    state_dict: Mapping[str, Tensor],
    policy: str = "resize_if_empty",
    dtype: torch.dtype = torch.int,
) -> None:
    size = state_dict[state_dict_key].size()
    buffer = find_named_buffer(module, buffer_name)
    if policy in ("resize_if_empty", "resize"):
        if buffer is None:
            raise RuntimeError(f"buffer {buffer_name!r} is not registered")
        if policy == "resize" or buffer.numel() == 0:
            buffer.resize_(size)
    elif policy == "register":
        if buffer is not None:
            raise RuntimeError(f"buffer {buffer_name!r} is registered already")
        owner_name, _, name = buffer_name.rpartition(".")
        owner = find_named_module(module, owner_name)
        if owner is None:
            raise RuntimeError(f"there is no module {owner_name!r} to register {name!r} in")
        owner.register_buffer(name, torch.zeros(size, dtype=dtype))
    else:
        raise ValueError(
            f"policy must be 'resize_if_empty', 'resize' or 'register', got {policy!r}"
        )


def remap_old_keys(module_name: str, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the parameters of an ``EntropyBottleneck`` as saved by earlier releases.

    Args:
        module_name: name of the bottleneck in ``state_dict``.
        state_dict: not modified.

    Returns:
        New dict with ``matrices.0`` for ``_matrix0``, and ``biases``, ``factors`` alike.
    """
    prefix = f"{module_name}."

    def rename(key: str) -> str:
        rest = key[len(prefix) :]
        for old, new in _LEGACY_LISTS:
            if key.startswith(prefix) and rest.startswith(old) and rest[len(old) :].isdigit():
                return prefix + new + rest[len(old) :]
        return key

    return {rename(key): value for key, value in state_dict.items()}


def gaussian_kernel1d(
    kernel_size: int, sigma: float, device: torch.device | str, dtype: torch.dtype
) -> Tensor:
    """Samples of a Gaussian at unit distances around 0, normalised to sum 1.

    Args:
        kernel_size: number of samples.
        sigma: standard deviation in samples.
        device, dtype: of the result.

    Returns:
        ``(kernel_size,)``.

    Raises:
        ValueError: ``kernel_size`` is below 1 or ``sigma`` is not positive.
    """
    if kernel_size < 1 or not sigma > 0:
        raise ValueError(
            f"kernel_size must be at least 1 and sigma positive, got {kernel_size} and {sigma}"
        )
    reach = (kernel_size - 1) / 2
    x = torch.linspace(-reach, reach, kernel_size, device=device, dtype=dtype)
    samples = torch.exp(-0.5 * (x / sigma) ** 2)
    return samples / samples.sum()


def gaussian_kernel2d(
    kernel_size: int, sigma: float, device: torch.device | str, dtype: torch.dtype
) -> Tensor:
    """Outer product ``(kernel_size, kernel_size)`` of :func:`gaussian_kernel1d` with itself."""
    kernel = gaussian_kernel1d(kernel_size, sigma, device, dtype)
    return torch.outer(kernel, kernel)


def gaussian_blur(
    x: Tensor,
    kernel: Tensor | None = None,
    kernel_size: int | None = None,
    sigma: float | None = None,
) -> Tensor:
    """Filter each channel with one kernel; pixels at the border are repeated outwards.

    Args:
        x: ``(N, C, H, W)``.
        kernel: ``(k, k)`` with odd ``k``; or else
        kernel_size, sigma: those of a Gaussian, see :func:`gaussian_kernel2d`.

    Returns:
        Tensor of the shape of ``x``.

    Raises:
        RuntimeError: neither a kernel nor both its size and sigma are given.
        ValueError: the kernel is not square with an odd side.
    """
    if kernel is None:
        if kernel_size is None or sigma is None:
            raise RuntimeError("gaussian_blur needs a kernel, or kernel_size and sigma")
        kernel = gaussian_kernel2d(kernel_size, sigma, x.device, x.dtype)
    size = kernel.size(-1)
    if kernel.shape != (size, size) or size % 2 == 0:
        raise ValueError(f"kernel must be square with an odd side, got {tuple(kernel.shape)}")
    padded = F.pad(x, [size // 2] * 4, mode="replicate")
    channels = x.size(1)
    return F.conv2d(padded, kernel.expand(channels, 1, size, size), groups=channels)


def meshgrid2d(N: int, C: int, H: int, W: int, device: torch.device | str) -> Tensor:
    """Where :func:`torch.nn.functional.grid_sample` finds each pixel of an image.

    Args:
        N, C, H, W: size of the image; ``C`` has no influence.
        device: of the result.

    Returns:
        float32 ``(N, H, W, 2)``: x and y of the pixels' centres, in [-1, 1] from edge to edge
        (``align_corners=False``).
    """
    identity = torch.eye(2, 3, device=device).expand(N, 2, 3)
    return F.affine_grid(identity, [N, C, H, W], align_corners=False)
