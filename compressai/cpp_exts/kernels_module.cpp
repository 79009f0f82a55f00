// SPDX-License-Identifier: BSD-3-Clause-Clear
// The Python module compressai._kernels: layers for inference on the CPU.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>

#include <optional>
#include <stdexcept>
#include <string>

#include "kernel_arguments.hpp"
#include "kernels.hpp"
#include "kernels_docs.hpp"
#include "window_binding.hpp"

using namespace nanobind::literals;

namespace compressai {
namespace {

using Map = nb::ndarray<const float, nb::ndim<4>, nb::c_contig, nb::device::cpu>;
using OutputMap = nb::ndarray<float, nb::ndim<4>, nb::c_contig, nb::device::cpu>;
using Transformed = Map;

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

// What all layers have in common, checked: sizes fit each other.
void fill(Layer& call, const Map& x, const float* weights, std::size_t out_channels,
          const std::optional<Values>& bias, const Activation& activation,
          const std::optional<Map>& residual, std::size_t shuffle, std::size_t planes,
          const OutputMap& out, int threads) {
  if (!kernels_available()) throw std::runtime_error("no kernels for this processor");
  check_threads(threads);
  check_outputs(out_channels, shuffle, planes);
  check(!planes || (!residual && !activation.of_sum),
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
  call.weights = weights;
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
  if (bias) {
    check_shape(*bias, {out_channels}, "bias");
    call.bias = bias->data();
  }
  if (residual) {
    check_shape(*residual, {out.shape(0), out.shape(1), out.shape(2), out.shape(3)}, "residual");
    call.residual = residual->data();
  }
}

template <std::size_t kKernel>
void run_winograd(const Map& x, const Transformed& weights, const std::optional<Values>& bias,
                 float slope, bool gelu, const std::optional<Map>& residual, bool activate_sum,
                 std::size_t shuffle, std::size_t planes, const OutputMap& out, int threads) {
  check_shape(weights, {kWinogradPositions, weights.shape(1), x.shape(3), kPanel}, "weights");
  WinogradConv call;
  call.kernel = kKernel;
  fill(call, x, weights.data(), weights.shape(1) * kPanel, bias,
       {slope, gelu, activate_sum}, residual, shuffle,
       planes, out, threads);
  const nb::gil_scoped_release release;
  winograd_conv(call);
}

void run_conv1x1(const Map& x, const Panels& weights, const std::optional<Values>& bias,
                 float slope, bool gelu, const std::optional<Map>& residual, bool activate_sum,
                 std::size_t shuffle, std::size_t planes, const OutputMap& out, int threads) {
  check_shape(weights, {weights.shape(0), x.shape(3), kPanel}, "weights");
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
  check_shape(gamma, {x.shape(3) / kPanel, x.shape(3), kPanel}, "gamma");
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
