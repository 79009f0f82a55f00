// SPDX-License-Identifier: BSD-3-Clause-Clear
// Included once for each set of instructions, after kernel_common.inl.
#include "kernel_blocks.hpp"

namespace compressai {
namespace {

using Gate = Conv1x1::Gate;

inline Lanes square_root(Lanes value) {
  Lanes result;
  for (std::size_t i = 0; i < kLanes; ++i) result[i] = __builtin_sqrtf(value[i]);
  return result;
}

// What the convolution multiplies: [pixel][input]. Rows behind the last one are of no account, but
// are read, and so may not lie behind the end of x.
inline const float* inputs(const Conv1x1& call, const PointwiseBlock& block, std::size_t rows) {
  const float* x = call.x + block.first * call.in_channels;
  if (call.gate == Gate::kNone && rows == block.pixels) return x;
  const std::size_t count = block.pixels * call.in_channels;
  const bool roots = call.gate == Gate::kDivideByRoot || call.gate == Gate::kTimesRoot;
  for (std::size_t i = 0; i < count; i += kLanes) {
    const Lanes value = load(x + i);
    const Lanes magnitude = value < 0 ? -value : value;
    store(block.values + i, call.gate == Gate::kNone ? value : roots ? value * value : magnitude);
  }
  return block.values;
}

inline Lanes scale(Gate gate, Lanes x, Lanes norm) {
  switch (gate) {
    case Gate::kDivideByRoot: return x / square_root(norm);
    case Gate::kTimesRoot: return x * square_root(norm);
    case Gate::kDivide: return x / norm;
    default: return x * norm;
  }
}

inline void write_scaled(const Conv1x1& call, Lanes value, std::size_t pixel, std::size_t channel) {
  const std::size_t place = pixel * call.out_channels + channel;
  value = scale(call.gate, load(call.x + place), value + load(call.bias + channel));
  store(call.out + place, call.residual ? value + load(call.residual + place) : value);
}

}  // namespace

void KERNEL(pointwise)(const Conv1x1& call, const PointwiseBlock& block) {
  const std::size_t depth = call.in_channels, panels = call.out_channels / kColumns;
  const std::size_t at_once = block.products_width / kColumns;
  const std::size_t rows = (block.pixels + kRows - 1) / kRows * kRows;
  const float* values = inputs(call, block, rows);
  for (std::size_t first = 0; first < panels; first += at_once) {
    const std::size_t count = panels - first < at_once ? panels - first : at_once;
    multiply_panels<kLongSums>(values, rows, depth, call.weights + first * depth * kColumns, count,
                               block.products, block.products_width);
    const std::size_t vectors = count * kColumns / kLanes;
    Target targets[kMostOutputs / kLanes];
    for (std::size_t v = 0; v < vectors; ++v) {
      targets[v] = target(call, first * kColumns + v * kLanes);
    }
    Pixel at{block.first / call.width / call.height, block.first / call.width % call.height,
             block.first % call.width};
    for (std::size_t p = 0; p < block.pixels; ++p) {
      const float* products = block.products + p * block.products_width;
      if (call.gate == Gate::kNone) {
        for (std::size_t v = 0; v < vectors; ++v) {
          write(call, load(products + v * kLanes), at, targets[v]);
        }
      } else {
        for (std::size_t v = 0; v < vectors; ++v) {
          write_scaled(call, load(products + v * kLanes), block.first + p, targets[v].channel);
        }
      }
      if (++at.column < call.width) continue;
      at.column = 0;
      if (++at.row < call.height) continue;
      at.row = 0;
      ++at.picture;
    }
  }
}

}  // namespace compressai
