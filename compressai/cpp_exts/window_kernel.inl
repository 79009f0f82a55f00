// SPDX-License-Identifier: BSD-3-Clause-Clear
// A transformer block on a few windows. See kernel_common.inl.
#include "kernel_blocks.hpp"

#include "attention_kernel.inl"
#include "rows_kernel.inl"

namespace compressai {
void KERNEL(window_block)(const WindowBlock& block, const WindowGroup& group) {
  const std::size_t channels = block.channels, stride = whole_panels(channels);
  const std::size_t qkv_stride = whole_panels(3 * channels);
  const std::size_t hidden_stride = whole_panels(block.fc1.outputs);
  const std::size_t tokens = group.tokens, positions = block.positions();
  float* const x = group.scratch;
  float* const normal = x + tokens * stride;
  float* const mixed = normal + tokens * stride;
  float* const wide = mixed + tokens * stride;  // queries, keys and values, then hidden channels
  float* const scratch = wide + tokens * (qkv_stride > hidden_stride ? qkv_stride : hidden_stride);

  for (std::size_t t = 0; t < tokens; ++t) {
    float* const row = x + t * stride;
    const float* const source = group.sources[t];
    const std::size_t filled = source == nullptr ? 0 : channels;
    for (std::size_t c = 0; c < filled; ++c) row[c] = source[c];
    for (std::size_t c = filled; c < stride; ++c) row[c] = 0;
  }

  const float* input = x;
  if (block.norm1.weight != nullptr) {
    normalize(block.norm1, channels, x, tokens, stride, normal);
    for (std::size_t t = 0; t < tokens; ++t) {
      if (group.sources[t] != nullptr) continue;
      for (std::size_t c = 0; c < channels; ++c) normal[t * stride + c] = 0;
    }
    input = normal;
  }
  linear<Then::kStore>(block.qkv, input, stride, tokens, wide, qkv_stride);

  const std::size_t dim = channels / block.heads, columns = bias_columns(positions);
  const Head head{positions,    dim,     qkv_stride, channels,
                  2 * channels, columns, stride,     block.scale};
  for (std::size_t first = 0, window = 0; first < tokens; first += positions, ++window) {
    for (std::size_t n = 0; n < block.heads; ++n) {
      const std::size_t table = group.kinds[window] * block.heads + n;
      attend(head, wide + first * qkv_stride + n * dim, block.bias + table * positions * columns,
             scratch, mixed + first * stride + n * dim);
    }
  }
  if (block.skip) {
    linear<Then::kAdd>(block.proj, mixed, stride, tokens, x, stride);
  } else {
    linear<Then::kStore>(block.proj, mixed, stride, tokens, x, stride);
  }

  if (block.fc1.outputs != 0) {
    input = x;
    if (block.norm2.weight != nullptr) {
      normalize(block.norm2, channels, x, tokens, stride, normal);
      input = normal;
    }
    linear<Then::kGelu>(block.fc1, input, stride, tokens, wide, hidden_stride);
    linear<Then::kAdd>(block.fc2, wide, hidden_stride, tokens, x, stride);
  }

  for (std::size_t t = 0; t < tokens; ++t) {
    float* const target = group.targets[t];
    if (target == nullptr) continue;
    for (std::size_t c = 0; c < channels; ++c) target[c] = x[t * stride + c];
  }
}

}  // namespace compressai
