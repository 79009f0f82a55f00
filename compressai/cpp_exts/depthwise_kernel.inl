// SPDX-License-Identifier: BSD-3-Clause-Clear
// Included once for each set of instructions, after kernel_common.inl.
#include "kernel_blocks.hpp"

namespace compressai {
namespace {

// Results of a row at once, which share their inputs and weights.
constexpr std::size_t kNeighbours = 4, kTaps = 3;

// Where the channels of the inputs of some results lie; zeros around the map.
using Window = const float* [kTaps][kNeighbours + kTaps - 1];

inline void convolve(const DepthwiseConv& call, const Window& inputs, std::size_t place,
                     std::size_t count) {
  for (std::size_t c = 0; c < call.channels; c += kLanes) {
    Lanes sums[kNeighbours] = {};
    for (std::size_t row = 0; row < kTaps; ++row) {
      Lanes weights[kTaps];
      for (std::size_t tap = 0; tap < kTaps; ++tap) {
        weights[tap] = load(call.weights + (row * kTaps + tap) * call.channels + c);
      }
      for (std::size_t i = 0; i < kNeighbours + kTaps - 1; ++i) {
        const Lanes value = load(inputs[row][i] + c);
        for (std::size_t tap = 0; tap < kTaps; ++tap) {
          if (i >= tap && i - tap < kNeighbours) sums[i - tap] += value * weights[tap];
        }
      }
    }
    const Lanes bias = call.bias ? load(call.bias + c) : Lanes{};
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t at = place + i * call.channels + c;
      const Lanes value = activate(call.activation, sums[i] + bias);
      store(call.out + at, call.gate ? value * load(call.gate + at) : value);
    }
  }
}

}  // namespace

void KERNEL(depthwise)(const DepthwiseConv& call, const DepthwiseBlock& block) {
  for (std::size_t r = block.first; r < block.first + block.rows; ++r) {
    const std::size_t row = r % call.height;
    for (std::size_t column = 0; column < call.width; column += kNeighbours) {
      const std::size_t left = call.width - column;
      Window inputs;
      for (std::size_t down = 0; down < kTaps; ++down) {
        const bool in_rows = row + down >= 1 && row + down - 1 < call.height;
        for (std::size_t i = 0; i < kNeighbours + kTaps - 1; ++i) {
          const bool inside = in_rows && column + i >= 1 && column + i - 1 < call.width;
          const std::size_t pixel = (r + down - 1) * call.width + column + i - 1;
          inputs[down][i] = inside ? call.x + pixel * call.channels : block.zeros;
        }
      }
      convolve(call, inputs, (r * call.width + column) * call.channels,
               left < kNeighbours ? left : kNeighbours);
    }
  }
}

}  // namespace compressai
