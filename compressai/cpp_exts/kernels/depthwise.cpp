// SPDX-License-Identifier: BSD-3-Clause-Clear
// Convolutions of each channel by itself.
#include "common.hpp"

namespace compressai {

// 3x3 convolution of each channel by itself, of stride 1 and padding 1, with an activation behind it
// and a factor for each result behind that. The channels must be a multiple of 16.
struct DepthwiseConv {
  const float* x = nullptr;
  std::size_t batch = 0, height = 0, width = 0, channels = 0;
  const float* weights = nullptr;  // [row][column][channel]
  const float* bias = nullptr;     // of each channel, or null
  Activation activation;           // `of_sum` has no meaning
  const float* gate = nullptr;     // the factors, of the output's shape, or null
  float* out = nullptr;
  int threads = 1;
};

struct DepthwiseBlock {
  std::size_t first, rows;  // of all images
  const float* zeros;       // as many as channels
};

}  // namespace compressai

#ifdef KERNEL_INSTRUCTIONS

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

#else

#include "layer_arguments.hpp"
#include "threads.hpp"

using namespace nanobind::literals;

namespace compressai {

KERNEL_VERSIONS(depthwise, const DepthwiseConv& call, const DepthwiseBlock& block)

namespace {

constexpr const char* kDepthwise3x3 = R"(3x3 convolution of each channel by itself, of stride 1 and padding 1.

Args:
    x: ``(N, H, W, C)``.
    weights: ``(3, 3, C)``.
    bias: ``(C,)``.
    slope, gelu: of an activation, as in :func:`conv3x3`.
    gate: of the shape of ``x``; multiplied with what the activation gives.
    out: written to, of the shape of ``x``.
    threads: at most as many, and at most 256.)";

constexpr std::size_t kRowsOfMaps = 4;

void depthwise_conv(const DepthwiseConv& call) {
  const auto run = depthwise();
  const std::size_t rows = call.batch * call.height;
  if (rows * call.width == 0) return;
  const std::vector<float> zeros(call.channels);
  for_blocks(rows, kRowsOfMaps, call.threads, 0,
             [&](float*, std::size_t first, std::size_t count) {
               run(call, {first, count, zeros.data()});
             });
}

void run_depthwise(nb::handle x, nb::handle weights, nb::handle bias, float slope, bool gelu,
                   nb::handle gate, nb::handle out, int threads) {
  const Arguments given(x, bias, gate, out, "gate");
  const auto taps = take<const float, 3, Contiguous>(weights, "weights");
  check_available();
  check_threads(threads);
  DepthwiseConv call;
  call.x = given.x.data();
  call.batch = given.x.shape(0);
  call.height = given.x.shape(1);
  call.width = given.x.shape(2);
  call.channels = given.x.shape(3);
  check(call.channels > 0 && call.channels % kPanel == 0,
        "x must have a multiple of 16 channels, got " + shape_of(given.x));
  check_shape(taps, {3, 3, call.channels}, "weights");
  const auto check_size = [&](const auto& map, const std::string& name) {
    check_shape(map, {call.batch, call.height, call.width, call.channels}, name);
  };
  check_size(given.out, "out");
  check_apart(given.out, given.x, "x");
  check_apart(given.out, taps, "weights");
  if (given.bias) {
    check_shape(*given.bias, {call.channels}, "bias");
    check_apart(given.out, *given.bias, "bias");
    call.bias = given.bias->data();
  }
  if (given.residual) {
    check_size(*given.residual, "gate");
    check_apart(given.out, *given.residual, "gate");
    call.gate = given.residual->data();
  }
  call.weights = taps.data();
  call.activation = {slope, gelu, false};
  call.out = given.out.data();
  call.threads = threads;
  const nb::gil_scoped_release release;
  depthwise_conv(call);
}


void bind(nb::module_& m) {
  m.def("depthwise3x3", &run_depthwise, "x"_a, "weights"_a, "bias"_a.none(), "slope"_a, "gelu"_a,
        "gate"_a.none(), "out"_a, "threads"_a,
        nb::sig("def depthwise3x3(x: Tensor, weights: Tensor, bias: Tensor | None, slope: float, "
                "gelu: bool, gate: Tensor | None, out: Tensor, threads: int) -> None"),
        kDepthwise3x3);
}

const Registered registered(&bind);

}  // namespace
}  // namespace compressai

#endif
