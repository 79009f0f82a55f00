// SPDX-License-Identifier: BSD-3-Clause-Clear
// The Python module compressai._kernels: layers for inference on the CPU.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>

#include <optional>
#include <stdexcept>

#include "kernels.hpp"
#include "kernels_docs.hpp"
#include "window_binding.hpp"

namespace nb = nanobind;
using namespace nanobind::literals;

namespace compressai {
namespace {

using Map = nb::ndarray<const float, nb::ndim<4>, nb::c_contig, nb::device::cpu>;
using OutputMap = nb::ndarray<float, nb::ndim<4>, nb::c_contig, nb::device::cpu>;
using Values = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Panels = nb::ndarray<const float, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
using Transformed = Map;

void check(bool holds, const char* what) {
  if (!holds) throw std::invalid_argument(what);
}

// What all layers have in common, checked: sizes fit each other.
void fill(Layer& call, const Map& x, const float* weights, std::size_t out_channels,
          const std::optional<Values>& bias, const Activation& activation,
          const std::optional<Map>& residual,
          std::size_t shuffle, std::size_t planes, const OutputMap& out, int threads) {
  if (!kernels_available()) throw std::runtime_error("no kernels for this processor");
  call.x = x.data();
  call.batch = x.shape(0);
  call.height = x.shape(1);
  call.width = x.shape(2);
  call.in_channels = x.shape(3);
  call.out_channels = out_channels;
  call.weights = weights;
  call.activation = activation;
  call.shuffle = shuffle;
  call.planes = planes;
  call.out = out.data();
  call.threads = threads;
  check(shuffle >= 1 && shuffle <= 1024 && planes <= out_channels,
        "shuffle or planes do not fit the weights");
  const std::size_t parts = shuffle * shuffle, channels = planes ? planes : out_channels / parts;
  const std::size_t height = shuffle * call.height, width = shuffle * call.width;
  check(call.in_channels > 0 && call.in_channels % kPanel == 0,
        "x must have a multiple of 16 channels");
  check(channels * parts <= out_channels && !(planes && residual) &&
            (planes || (channels % kPanel == 0 && channels * parts == out_channels)),
        "shuffle or planes do not fit the weights");
  check(out.shape(0) == call.batch && out.shape(1) == (planes ? channels : height) &&
            out.shape(2) == (planes ? height : width) &&
            out.shape(3) == (planes ? width : channels),
        "out must have the shape of the result");
  if (bias) {
    check(bias->shape(0) == out_channels, "bias must have a value for each output channel");
    call.bias = bias->data();
  }
  if (residual) {
    for (std::size_t i = 0; i < 4; ++i) {
      check(residual->shape(i) == out.shape(i), "residual must have the shape of out");
    }
    call.residual = residual->data();
  }
}

template <std::size_t kKernel>
void run_winograd(const Map& x, const Transformed& weights, const std::optional<Values>& bias,
                 float slope, bool gelu, const std::optional<Map>& residual, bool activate_sum,
                 std::size_t shuffle, std::size_t planes, const OutputMap& out, int threads) {
  check(weights.shape(0) == kWinogradPositions && weights.shape(2) == x.shape(3) &&
            weights.shape(3) == kPanel,
        "weights must be (36, out_channels / 16, in_channels, 16)");
  WinogradConv call;
  call.kernel = kKernel;
  fill(call, x, weights.data(), weights.shape(1) * kPanel, bias,
       {slope, gelu, activate_sum}, residual, shuffle,
       planes, out, threads);
  const nb::gil_scoped_release release;
  winograd_conv(call);
}

void check_panels(const Panels& weights, const Map& x) {
  check(weights.shape(1) == x.shape(3) && weights.shape(2) == kPanel,
        "weights must be (out_channels / 16, in_channels, 16)");
}

void run_conv1x1(const Map& x, const Panels& weights, const std::optional<Values>& bias,
                 float slope, bool gelu, const std::optional<Map>& residual, bool activate_sum,
                 std::size_t shuffle, std::size_t planes, const OutputMap& out, int threads) {
  check_panels(weights, x);
  Conv1x1 call;
  fill(call, x, weights.data(), weights.shape(0) * kPanel, bias,
       {slope, gelu, activate_sum}, residual, shuffle,
       planes, out, threads);
  const nb::gil_scoped_release release;
  conv1x1(call);
}

void run_gdn(const Map& x, const Panels& gamma, const Values& beta, bool inverse, bool rootless,
             const std::optional<Map>& residual, const OutputMap& out, int threads) {
  using Gate = Conv1x1::Gate;
  check_panels(gamma, x);
  check(gamma.shape(0) * kPanel == x.shape(3), "gamma must be square");
  Conv1x1 call;
  fill(call, x, gamma.data(), x.shape(3), beta, {}, residual, 1, 0, out, threads);
  call.gate = rootless ? (inverse ? Gate::kTimes : Gate::kDivide)
                       : (inverse ? Gate::kTimesRoot : Gate::kDivideByRoot);
  const nb::gil_scoped_release release;
  conv1x1(call);
}

}  // namespace

NB_MODULE(_kernels, m) {
  nb::set_leak_warnings(false);
  m.doc() = docs::kModule;
  // A copy in another type or order would be written to in place of the array.
  const auto given = [](const char* name) { return nb::arg(name).noconvert(); };
  m.def("available", &kernels_available, nb::sig("def available() -> bool"), docs::kAvailable);
  m.def("conv3x3", &run_winograd<3>, given("x"), given("weights"), given("bias").none(), "slope"_a,
        "gelu"_a, given("residual").none(), "activate_sum"_a, "shuffle"_a, "planes"_a, given("out"), "threads"_a,
        nb::sig("def conv3x3(x: Tensor, weights: Tensor, bias: Tensor | None, slope: float, "
                "gelu: bool, residual: Tensor | None, activate_sum: bool, shuffle: int, "
                "planes: int, out: Tensor, threads: int) -> None"),
        docs::kConv3x3);
  m.def("conv5x5", &run_winograd<5>, given("x"), given("weights"), given("bias").none(), "slope"_a,
        "gelu"_a, given("residual").none(), "activate_sum"_a, "shuffle"_a, "planes"_a, given("out"), "threads"_a,
        nb::sig("def conv5x5(x: Tensor, weights: Tensor, bias: Tensor | None, slope: float, "
                "gelu: bool, residual: Tensor | None, activate_sum: bool, shuffle: int, "
                "planes: int, out: Tensor, threads: int) -> None"),
        docs::kConv5x5);
  m.def("conv1x1", &run_conv1x1, given("x"), given("weights"), given("bias").none(), "slope"_a,
        "gelu"_a, given("residual").none(), "activate_sum"_a, "shuffle"_a, "planes"_a, given("out"), "threads"_a,
        nb::sig("def conv1x1(x: Tensor, weights: Tensor, bias: Tensor | None, slope: float, "
                "gelu: bool, residual: Tensor | None, activate_sum: bool, shuffle: int, "
                "planes: int, out: Tensor, threads: int) -> None"),
        docs::kConv1x1);
  m.def("gdn", &run_gdn, given("x"), given("gamma"), given("beta"), "inverse"_a, "rootless"_a,
        given("residual").none(), given("out"), "threads"_a,
        nb::sig("def gdn(x: Tensor, gamma: Tensor, beta: Tensor, inverse: bool, rootless: bool, "
                "residual: Tensor | None, out: Tensor, threads: int) -> None"),
        docs::kGdn);
  bind_window_block(m);
}

}  // namespace compressai
