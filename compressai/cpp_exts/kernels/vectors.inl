// SPDX-License-Identifier: BSD-3-Clause-Clear
// Vectors, products of matrices and results, for the set of instructions that is compiled for. No
// function of the standard library: the linker would keep one version of it, which might be the one
// for the newer processor.
#include <cstdint>

namespace compressai {
namespace {

typedef float Lanes
    __attribute__((vector_size(KERNEL_LANES * sizeof(float)), aligned(4), may_alias));

constexpr std::size_t kLanes = KERNEL_LANES;
constexpr std::size_t kRows = KERNEL_ROWS;
constexpr std::size_t kColumns = kPanel;

inline Lanes load(const float* from) { return *reinterpret_cast<const Lanes*>(from); }
inline void store(float* to, Lanes value) { *reinterpret_cast<Lanes*>(to) = value; }
inline Lanes broadcast(float value) { return value - Lanes{}; }

// Of products of matrices: so many terms are added up before the sum is added to that of others. The
// fewer, the less is rounded; below 16, nothing is gained.
constexpr std::size_t kLongSums = 64, kExactSums = 16;

// kRows rows times kVectors vectors of columns: out = values * weights.
template <std::size_t kSum, std::size_t kVectors>
inline void multiply(const float* values, std::size_t depth, const float* weights,
                     std::size_t vector_stride, float* out, std::size_t out_stride) {
  for (std::size_t first = 0; first < depth; first += kSum) {
    const std::size_t end = depth - first < kSum ? depth : first + kSum;
    Lanes sums[kRows][kVectors] = {};
    for (std::size_t k = first; k < end; ++k) {
      Lanes column[kVectors];
      for (std::size_t v = 0; v < kVectors; ++v) {
        column[v] = load(weights + k * kColumns + v * vector_stride);
      }
      for (std::size_t row = 0; row < kRows; ++row) {
        const Lanes value = broadcast(values[row * depth + k]);
        for (std::size_t v = 0; v < kVectors; ++v) sums[row][v] += value * column[v];
      }
    }
    for (std::size_t row = 0; row < kRows; ++row) {
      for (std::size_t v = 0; v < kVectors; ++v) {
        float* const at = out + row * out_stride + v * kLanes;
        store(at, first ? load(at) + sums[row][v] : sums[row][v]);
      }
    }
  }
}

// All rows times some panels of kColumns columns.
template <std::size_t kSum>
inline void multiply_panels(const float* values, std::size_t rows, std::size_t depth,
                            const float* weights, std::size_t panels, float* out,
                            std::size_t out_stride) {
  constexpr bool kWide = kLanes == kColumns;  // a vector is a whole panel: take two of them
  constexpr std::size_t kInPanel = kColumns / kLanes;
  const std::size_t panel_size = depth * kColumns;
  for (std::size_t panel = 0; panel < panels;) {
    const bool two = kWide && panel + 1 < panels;
    const float* of = weights + panel * panel_size;
    for (std::size_t row = 0; row < rows; row += kRows) {
      const float* from = values + row * depth;
      float* to = out + row * out_stride + panel * kColumns;
      if (two) {
        multiply<kSum, 2>(from, depth, of, panel_size, to, out_stride);
      } else {
        multiply<kSum, kInPanel>(from, depth, of, kLanes, to, out_stride);
      }
    }
    panel += two ? 2 : 1;
  }
}

}  // namespace
}  // namespace compressai

#include "functions.inl"

namespace compressai {
namespace {

struct Pixel {
  std::size_t image, row, column;
};

// Where a vector of channels goes in the output: found once, used for many pixels.
struct Target {
  std::size_t channel;           // of the layer
  std::size_t row, column;       // which of the pixels that a pixel becomes by the shuffle
  std::size_t offset, channels;  // in that pixel, and of it
};

inline Target target(const Layer& call, std::size_t channel) {
  const std::size_t factor = call.shuffle, channels = call.out_channels / (factor * factor);
  const std::size_t part = channel / channels;
  return {channel, part / factor, part % factor, channel % channels, channels};
}

// A result of the shape (N, C, H, W), behind its bias and activation.
inline void write_planes(const Layer& call, Lanes value, const Pixel& at, std::size_t channel) {
  const std::size_t factor = call.shuffle, parts = factor * factor;
  std::size_t plane = channel / parts, part = channel % parts;
  std::size_t down = part / factor, right = part % factor;
  for (std::size_t i = 0; i < kLanes && plane < call.planes; ++i) {
    const std::size_t row =
        ((at.image * call.planes + plane) * call.height + at.row) * factor + down;
    call.out[(row * call.width + at.column) * factor + right] = value[i];
    if (++right < factor) continue;
    right = 0;
    if (++down < factor) continue;
    down = 0;
    ++plane;
  }
}

inline Lanes activate(const Activation& activation, Lanes value) {
  if (activation.gelu) return gelu(value);
  if (activation.slope == 1) return value;
  return value < 0 ? value * activation.slope : value;
}

// Bias, activation and residual, and out with it.
inline void write(const Layer& call, Lanes value, const Pixel& at, const Target& to) {
  if (call.bias) value += load(call.bias + to.channel);
  if (!call.activation.of_sum) value = activate(call.activation, value);
  if (call.planes) {
    write_planes(call, value, at, to.channel);
    return;
  }
  const std::size_t row = (at.image * call.height + at.row) * call.shuffle + to.row;
  const std::size_t pixel = (row * call.width + at.column) * call.shuffle + to.column;
  const std::size_t place = pixel * to.channels + to.offset;
  if (call.residual) value += load(call.residual + place);
  if (call.activation.of_sum) value = activate(call.activation, value);
  store(call.out + place, value);
}

}  // namespace
}  // namespace compressai
