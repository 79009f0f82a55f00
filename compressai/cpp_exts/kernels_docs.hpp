// SPDX-License-Identifier: BSD-3-Clause-Clear
// Docstrings of compressai._kernels, which the stub for editors takes from the module.
#pragma once

namespace compressai::docs {

constexpr const char* kModule = R"(Layers for inference on x86 processors with AVX2, for :mod:`compressai.inference`.

Feature maps are float32, CPU, channels last: contiguous ``(N, H, W, C)``, with a multiple of 16
channels. Results differ from those of torch in the last digits. Arguments that do not fit raise
ValueError or TypeError, so do arrays that are not aligned to 4 bytes, and an output that shares
memory with an input; RuntimeError where :func:`available` is false.)";

constexpr const char* kAvailable = R"(Whether this processor has the instructions that the layers need.

The environment variable ``ATEN_CPU_CAPABILITY`` limits the layers as it limits torch: with
``default`` there are none, with ``avx2`` those without AVX-512.)";

constexpr const char* kConv3x3 = R"(3x3 convolution of stride 1 and padding 1, with fewer multiplications.

Args:
    x: ``(N, H, W, in_channels)``.
    weights: ``(36, out_channels / 16, in_channels, 16)``, transformed for F(4x4, 3x3): a
        quarter of the multiplications. Or ``(16, ...)`` for F(2x2, 3x3): four ninths of them,
        and results about as close to those of exact arithmetic as those of torch.
    bias: ``(out_channels,)``.
    slope: factor of negative results: 1 none, 0 ReLU, else leaky ReLU.
    gelu: GELU in place of these.
    residual: of the shape of ``out``; added behind the activation.
    activate_sum: whether the activation stands behind the residual.
    shuffle: factor of a pixel shuffle of the result; 1 is none.
    planes: if not 0, ``out`` is ``(N, planes, shuffle H, shuffle W)``, made of the first
        ``planes * shuffle**2`` results in the order (channel, row, column), and there is no
        residual to add and no ``activate_sum``.
    out: written to; ``(N, shuffle H, shuffle W, C)`` of the results in the order (row, column,
        channel), unless there are planes.
    threads: at most as many, and at most 256.

Source: Lavin and Gray 2016, "Fast algorithms for convolutional neural networks".)";

constexpr const char* kConv5x5 = R"(5x5 convolution of stride 1 and padding 2, with a third of the multiplications.

The arguments are those of :func:`conv3x3`, with weights transformed for F(2x2, 5x5).)";

constexpr const char* kConv1x1 = R"(1x1 convolution, with the arguments of :func:`conv3x3`.

Args:
    weights: ``(out_channels / 16, in_channels, 16)``.)";

constexpr const char* kDepthwise3x3 = R"(3x3 convolution of each channel by itself, of stride 1 and padding 1.

Args:
    x: ``(N, H, W, C)``.
    weights: ``(3, 3, C)``.
    bias: ``(C,)``.
    slope, gelu: of an activation, as in :func:`conv3x3`.
    gate: of the shape of ``x``; multiplied with what the activation gives.
    out: written to, of the shape of ``x``.
    threads: at most as many, and at most 256.)";

constexpr const char* kGdn = R"(Generalised divisive normalisation, ``x / sqrt(beta + gamma x**2)``.

Args:
    x: ``(N, H, W, C)``.
    gamma: ``(C / 16, C, 16)``, panels of outputs.
    beta: ``(C,)``.
    inverse: multiply instead of dividing.
    rootless: with magnitudes in place of squares, and no root.
    residual: of the shape of ``out``; added last.
    out: written to.
    threads: at most as many, and at most 256.)";

constexpr const char* kWindowBlock = R"(Transformer block on the windows of a map.

``x = [x +] proj(attention(norm1(x)))``, then ``x + fc2(gelu(fc1(norm2(x))))`` if there is
a feed-forward network. The map is padded on the right and at the bottom to whole windows,
with zeros behind ``norm1``, and rolled up and to the left by ``shift``.

Linear layers are pairs of ``(ceil(out / 16), in, 16)`` weights, zeros behind the last
output, and the bias of all of these outputs.

Args:
    x: ``(N, H, W, C)``, any C; may be some channels of a wider map.
    out: likewise, written to; may be ``x``, or other channels of the map that has ``x``.
    window: height and width, at most 64.
    shift: smaller than both.
    heads: number of them, a divisor of C.
    scale: factor of the dot products.
    bias: added to the logits times log2(e): ``(kinds, heads, keys, queries)`` in one
        dimension, where keys are the positions of a window, and queries too, rounded up to
        a multiple of 32. There is one kind without shift, else there are four: for inner
        windows, those at the right, those at the bottom, the corner.
    skip: whether ``x`` is added to the attention.
    norm1: weight, bias and epsilon of a layer normalisation.
    qkv: linear layer, queries before keys before values, heads major in each.
    proj: linear layer behind the attention.
    norm2: as ``norm1``.
    mlp: hidden channels and two linear layers.
    threads: at most as many, and at most 256.

Source: Liu et al. 2021, "Swin transformer".)";

constexpr const char* kSelectiveScan = R"(Selective scan of a map in one to four directions, whose results are added.

For each image, direction and channel c, with positions t in the order of the direction (row by
row, column by column, and both backwards)::

    step_t = softplus(bias[c] + sum over r of weights[r, c] * params_t[r])
    h_t[n] = exp(step_t * decay[n, c]) * h_{t-1}[n] + step_t * x_t[c] * B_t[n]
    y_t    = skip[c] * x_t[c] + sum over n of h_t[n] * C_t[n]

Args:
    x: ``(N, H, W, C)``, any C.
    params: ``(N, H, W, directions, R + 2 S)`` with R values, B and C of S states.
    weights: ``(directions, R, C)``; None if R is C and the R values are the sums themselves.
    bias: ``(directions, C)``.
    decay: ``(directions, S, C)``, none positive.
    skip: ``(directions, C)``.
    out: ``(N, H, W, C)``, written to: at each position the sum of the directions' y.
    threads: at most as many, and at most 256; the result does not depend on them.

Source: Gu and Dao 2023, "Mamba: linear-time sequence modeling with selective state spaces".)";

}  // namespace compressai::docs
