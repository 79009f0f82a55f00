// SPDX-License-Identifier: BSD-3-Clause-Clear
// The Python module compressai._kernels: layers for inference on the CPU.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <optional>
#include <stdexcept>
#include <string>

#include "kernel_arguments.hpp"
#include "kernels.hpp"
#include "kernels_docs.hpp"
#include "scan_binding.hpp"
#include "window_binding.hpp"

using namespace nanobind::literals;

namespace compressai {
namespace {

using Map = Contiguous<const float, 4>;
using OutputMap = Contiguous<float, 4>;

constexpr std::size_t kMostShuffle = 1024;

// Whether a layer has as many outputs as its shuffle and planes take.
void check_outputs(std::size_t out_channels, std::size_t shuffle, std::size_t planes) {
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

  Map x;
  OutputMap out;
  std::optional<Values> bias;
  std::optional<Map> residual;
};

// What all layers have in common, checked: sizes fit each other.
template <typename Weights>
void fill(Layer& call, const Arguments& given, const Weights& weights, std::size_t out_channels,
          const Activation& activation, std::size_t shuffle, std::size_t planes, int threads) {
  const Map& x = given.x;
  const OutputMap& out = given.out;
  if (!kernels_available()) throw std::runtime_error("no kernels for this processor");
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

// The positions of the weights tell the tile.
template <std::size_t kKernel>
void run_winograd(nb::handle x, nb::handle weights, nb::handle bias, float slope, bool gelu,
                  nb::handle residual, bool activate_sum, std::size_t shuffle, std::size_t planes,
                  nb::handle out, int threads) {
  const Arguments given(x, bias, residual, out);
  const Map transformed = take<const float, 4, Contiguous>(weights, "weights");
  WinogradConv call;
  call.kernel = kKernel;
  call.tile = kKernel == 3 && transformed.shape(0) != 16 ? 4 : 2;
  check_shape(transformed, {call.positions(), transformed.shape(1), given.x.shape(3), kPanel},
              "weights");
  fill(call, given, transformed, transformed.shape(1) * kPanel, {slope, gelu, activate_sum},
       shuffle, planes, threads);
  const nb::gil_scoped_release release;
  winograd_conv(call);
}

void run_conv1x1(nb::handle x, nb::handle weights, nb::handle bias, float slope, bool gelu,
                 nb::handle residual, bool activate_sum, std::size_t shuffle, std::size_t planes,
                 nb::handle out, int threads) {
  const Arguments given(x, bias, residual, out);
  const Panels panels = take_panels(weights, "weights");
  check_shape(panels, {panels.shape(0), given.x.shape(3), kPanel}, "weights");
  Conv1x1 call;
  fill(call, given, panels, panels.shape(0) * kPanel, {slope, gelu, activate_sum}, shuffle, planes,
       threads);
  const nb::gil_scoped_release release;
  conv1x1(call);
}

void run_depthwise(nb::handle x, nb::handle weights, nb::handle bias, float slope, bool gelu,
                   nb::handle gate, nb::handle out, int threads) {
  const Arguments given(x, bias, gate, out, "gate");
  const auto taps = take<const float, 3, Contiguous>(weights, "weights");
  if (!kernels_available()) throw std::runtime_error("no kernels for this processor");
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

void run_gdn(nb::handle x, nb::handle gamma, nb::handle beta, bool inverse, bool rootless,
             nb::handle residual, nb::handle out, int threads) {
  using Gate = Conv1x1::Gate;
  Arguments given(x, nb::none(), residual, out);
  given.bias = take_values(beta, "beta");
  const std::size_t channels = given.x.shape(3);
  const Panels panels = take_panels(gamma, "gamma");
  check_shape(panels, {channels / kPanel, channels, kPanel}, "gamma");
  check_shape(*given.bias, {channels}, "beta");
  Conv1x1 call;
  fill(call, given, panels, channels, {}, 1, 0, threads);
  call.gate = rootless ? (inverse ? Gate::kTimes : Gate::kDivide)
                       : (inverse ? Gate::kTimesRoot : Gate::kDivideByRoot);
  const nb::gil_scoped_release release;
  conv1x1(call);
}

}  // namespace

NB_MODULE(_kernels, m) {
  nb::set_leak_warnings(false);
  m.doc() = docs::kModule;
  m.def("available", &kernels_available, nb::sig("def available() -> bool"), docs::kAvailable);
  m.def("conv3x3", &run_winograd<3>, "x"_a, "weights"_a, "bias"_a.none(), "slope"_a,
        "gelu"_a, "residual"_a.none(), "activate_sum"_a, "shuffle"_a, "planes"_a, "out"_a, "threads"_a,
        nb::sig("def conv3x3(x: Tensor, weights: Tensor, bias: Tensor | None, slope: float, "
                "gelu: bool, residual: Tensor | None, activate_sum: bool, shuffle: int, "
                "planes: int, out: Tensor, threads: int) -> None"),
        docs::kConv3x3);
  m.def("conv5x5", &run_winograd<5>, "x"_a, "weights"_a, "bias"_a.none(), "slope"_a,
        "gelu"_a, "residual"_a.none(), "activate_sum"_a, "shuffle"_a, "planes"_a, "out"_a, "threads"_a,
        nb::sig("def conv5x5(x: Tensor, weights: Tensor, bias: Tensor | None, slope: float, "
                "gelu: bool, residual: Tensor | None, activate_sum: bool, shuffle: int, "
                "planes: int, out: Tensor, threads: int) -> None"),
        docs::kConv5x5);
  m.def("conv1x1", &run_conv1x1, "x"_a, "weights"_a, "bias"_a.none(), "slope"_a,
        "gelu"_a, "residual"_a.none(), "activate_sum"_a, "shuffle"_a, "planes"_a, "out"_a, "threads"_a,
        nb::sig("def conv1x1(x: Tensor, weights: Tensor, bias: Tensor | None, slope: float, "
                "gelu: bool, residual: Tensor | None, activate_sum: bool, shuffle: int, "
                "planes: int, out: Tensor, threads: int) -> None"),
        docs::kConv1x1);
  m.def("depthwise3x3", &run_depthwise, "x"_a, "weights"_a, "bias"_a.none(), "slope"_a, "gelu"_a,
        "gate"_a.none(), "out"_a, "threads"_a,
        nb::sig("def depthwise3x3(x: Tensor, weights: Tensor, bias: Tensor | None, slope: float, "
                "gelu: bool, gate: Tensor | None, out: Tensor, threads: int) -> None"),
        docs::kDepthwise3x3);
  m.def("gdn", &run_gdn, "x"_a, "gamma"_a, "beta"_a, "inverse"_a, "rootless"_a,
        "residual"_a.none(), "out"_a, "threads"_a,
        nb::sig("def gdn(x: Tensor, gamma: Tensor, beta: Tensor, inverse: bool, rootless: bool, "
                "residual: Tensor | None, out: Tensor, threads: int) -> None"),
        docs::kGdn);
  bind_selective_scan(m);
  bind_window_block(m);
}

}  // namespace compressai
