// SPDX-License-Identifier: BSD-3-Clause-Clear
// Arguments that the functions of several layers have in common.
#pragma once

#include <optional>
#include <string>

#include "arguments.hpp"

namespace compressai {

using InputMap = Contiguous<const float, 4>;
using OutputMap = Contiguous<float, 4>;

constexpr std::size_t kMostShuffle = 1024;

// Whether a layer has as many outputs as its shuffle and planes take.
inline void check_outputs(std::size_t out_channels, std::size_t shuffle, std::size_t planes) {
  check(shuffle >= 1 && shuffle <= kMostShuffle,
        "shuffle must be 1.." + std::to_string(kMostShuffle) + ", got " + std::to_string(shuffle));
  const std::size_t parts = shuffle * shuffle;
  const std::string got = ", got " + std::to_string(out_channels) + " with shuffle " +
                          std::to_string(shuffle) + " and planes " + std::to_string(planes);
  if (planes) {
    check(planes <= out_channels / parts,
          "weights must have at least planes * shuffle^2 output channels" + got);
  } else {
    check(out_channels % (parts * kPanel) == 0,
          "weights must have a multiple of 16 * shuffle^2 output channels" + got);
  }
}

// What every layer is called with.
struct Arguments {
  Arguments(nb::handle x, nb::handle bias, nb::handle residual, nb::handle out,
            const std::string& name = "residual")
      : x(take<const float, 4, Contiguous>(x, "x")),
        out(take<float, 4, Contiguous>(out, "out")) {
    if (!bias.is_none()) this->bias = take_values(bias, "bias");
    if (!residual.is_none()) this->residual = take<const float, 4, Contiguous>(residual, name);
  }

  InputMap x;
  OutputMap out;
  std::optional<Values> bias;
  std::optional<InputMap> residual;
};

// What all layers have in common, checked: sizes fit each other.
template <typename Weights>
void fill(Layer& call, const Arguments& given, const Weights& weights, std::size_t out_channels,
          const Activation& activation, std::size_t shuffle, std::size_t planes, int threads) {
  const InputMap& x = given.x;
  const OutputMap& out = given.out;
  check_available();
  check_threads(threads);
  check_outputs(out_channels, shuffle, planes);
  check(!planes || (!given.residual && !activation.of_sum),
        "planes must be 0 with a residual or an activation of the sum, got " +
            std::to_string(planes));
  check(x.shape(3) > 0 && x.shape(3) % kPanel == 0,
        "x must have a multiple of 16 channels, got " + shape_of(x));
  call.x = x.data();
  call.batch = x.shape(0);
  call.height = x.shape(1);
  call.width = x.shape(2);
  call.in_channels = x.shape(3);
  call.out_channels = out_channels;
  call.weights = weights.data();
  call.activation = activation;
  call.shuffle = shuffle;
  call.planes = planes;
  call.out = out.data();
  call.threads = threads;
  const std::size_t height = shuffle * call.height, width = shuffle * call.width;
  if (planes) {
    check_shape(out, {call.batch, planes, height, width}, "out");
  } else {
    check_shape(out, {call.batch, height, width, out_channels / (shuffle * shuffle)}, "out");
  }
  check_apart(out, x, "x");
  check_apart(out, weights, "weights");
  if (given.bias) {
    check_shape(*given.bias, {out_channels}, "bias");
    check_apart(out, *given.bias, "bias");
    call.bias = given.bias->data();
  }
  if (given.residual) {
    check_shape(*given.residual, {out.shape(0), out.shape(1), out.shape(2), out.shape(3)},
                "residual");
    check_apart(out, *given.residual, "residual");
    call.residual = given.residual->data();
  }
}

// Defines a function with the arguments of all convolutions.
#define DEFINE_CONVOLUTION(module, name, function, doc)                                          \
  module.def(name, function, "x"_a, "weights"_a, "bias"_a.none(), "slope"_a, "gelu"_a,           \
             "residual"_a.none(), "activate_sum"_a, "shuffle"_a, "planes"_a, "out"_a, "threads"_a, \
             nb::sig("def " name "(x: Tensor, weights: Tensor, bias: Tensor | None, "            \
                     "slope: float, gelu: bool, residual: Tensor | None, activate_sum: bool, "   \
                     "shuffle: int, planes: int, out: Tensor, threads: int) -> None"),           \
             doc)

}  // namespace compressai
