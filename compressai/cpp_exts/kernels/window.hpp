// SPDX-License-Identifier: BSD-3-Clause-Clear
// Transformer blocks on the windows of a map, in float32, for transforms whose last digits are
// nobody's format. All that a block does to a window is done while the window is in the cache: it
// is read where it lies and written once, and nothing is rolled, cut out or joined.
#pragma once

#include <cstddef>

#include "common.hpp"

namespace compressai {

// weights: (panels, inputs, kPanel), bias: (panels, kPanel), zeros behind the last output.
struct Linear {
  std::size_t inputs = 0, outputs = 0;
  const float* weights = nullptr;
  const float* bias = nullptr;
};

struct Norm {
  const float* weight = nullptr;  // null: no normalisation
  const float* bias = nullptr;
  float epsilon = 0;
};

// x = [x +] proj(attention(norm1(x))); x = x + fc2(gelu(fc1(norm2(x)))), the latter if there are
// hidden channels. The map is padded on the right and at the bottom to whole windows, with zeros
// behind norm1, and rolled up and to the left by `shift`. Padding takes part in the attention.
struct WindowBlock {
  std::size_t channels = 0, heads = 0;  // heads are thirds' major axis
  std::size_t window_height = 0, window_width = 0;
  std::size_t shift = 0;  // smaller than either side of the window
  float scale = 1;        // of the dot products
  bool skip = false;      // add x to the attention
  // Added to the logits times log2(e): (kinds, heads, keys, bias_columns), queries last, where keys
  // are the positions of a window. One kind if nothing is shifted, else four: for inner windows,
  // those at the right, those at the bottom, the corner.
  const float* bias = nullptr;
  Norm norm1, norm2;
  Linear qkv, proj, fc1, fc2;

  std::size_t positions() const { return window_height * window_width; }
  std::size_t kinds() const { return shift == 0 ? 1 : 4; }
};

// Channels lie together; strides are in floats.
template <typename T>
struct Map {
  T* data;
  std::size_t batch, height, width;
  std::size_t image_stride, row_stride, token_stride;
};

constexpr std::size_t kLargestWindow = 64;  // side

// Positions of a window, rounded up to what kernels read at once.
constexpr std::size_t bias_columns(std::size_t positions) { return (positions + 31) / 32 * 32; }

// What one thread computes at once: some windows, `tokens` positions in all. Sources that are null are padding.
struct WindowGroup {
  std::size_t tokens;
  const float* const* sources;
  float* const* targets;
  const std::size_t* kinds;  // one a window
  float* scratch;            // aligned to 64 bytes
};

}  // namespace compressai
