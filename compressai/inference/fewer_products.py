# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Large 1x1 convolutions and linear layers with fewer multiplications.

Two matrices of 2x2 parts are multiplied with seven products of sums of parts in place of eight
(Strassen 1969, "Gaussian elimination is not optimal"), and each of these once more so: 49 in place
of 64. Here the sums of the weights' parts are made; ``compressai/cpp_exts/kernels/products.inl``
makes those of the values, and knows the same products.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compressai.inference.kernels import NativeConv, NativeLinear, NativePair
from compressai.inference.panels import PANEL, panels

__all__ = ["divide_products", "divided", "parts_of"]

# Of each product the factor that is made of weights: signs of the parts in the order (0, 0),
# (0, 1), (1, 0), (1, 1).
_FACTORS = (
    *((1, 0, 0, 1), (1, 0, 0, 0), (0, 1, 0, -1), (-1, 0, 1, 0)),
    *((0, 0, 0, 1), (1, 1, 0, 0), (0, 0, 1, 1)),
)
# The smaller side of the weights from which on it is worth it to halve them, and to do so twice.
_LEAST = {2: 192, 4: 384}


def parts_of(outputs: int, inputs: int) -> int:
    """Into how many parts inputs and outputs of a layer are divided: 1, 2 or 4."""
    for parts in (4, 2):
        if min(outputs, inputs) >= _LEAST[parts] and not any(
            side % (parts * PANEL) for side in (outputs, inputs)
        ):
            return parts
    return 1


def divided(matrix: Tensor, parts: int) -> Tensor:
    """``(out, in)`` as panels of the factors of all products.

    Args:
        matrix: weights, whose sides are multiples of ``16 * parts``.
        parts: 2 or 4.

    Returns:
        ``(7 out / 32, in / 2, 16)`` or ``(49 out / 64, in / 4, 16)``, in the type of ``matrix``.
    """
    factors = matrix.new_tensor(_FACTORS, dtype=torch.float64).view(-1, 2, 2)
    if parts == 4:
        factors = torch.kron(factors, factors)
    outputs, inputs = (side // parts for side in matrix.shape)
    # Rows of the parts are those of the transposed weights.
    of_parts = matrix.double().view(parts, outputs, parts, inputs)
    sums = torch.einsum("pio,oaib->pab", factors, of_parts).to(matrix.dtype)
    return panels(sums).flatten(0, 1).contiguous()


def divide_products(network: nn.Module) -> bool:
    """Let the large layers of a network need fewer multiplications, in place.

    Results differ a little more from those of exact arithmetic, relative to the largest values of
    the map. Weights of these layers take 1.75 times the memory, of those that are halved twice 3.06
    times.

    Args:
        network: with layers of :mod:`compressai.inference.kernels`.

    Returns:
        Whether there was one.
    """
    found = False
    for module in network.modules():
        for layer in module.parts if isinstance(module, NativePair) else (module,):
            if isinstance(layer, (NativeConv, NativeLinear)) and layer.weight.dim() == 3:
                count, inputs, _ = layer.weight.shape
                parts = parts_of(count * PANEL, inputs)
                if parts > 1:
                    matrix = layer.weight.transpose(1, 2).flatten(0, 1)
                    layer.weight = divided(matrix, parts)
                    found = True
    return found
