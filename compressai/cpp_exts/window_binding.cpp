// SPDX-License-Identifier: BSD-3-Clause-Clear
#include "window_binding.hpp"

#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/tuple.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>

#include "kernel_arguments.hpp"
#include "kernels_docs.hpp"
#include "window_block.hpp"

using namespace nanobind::literals;

namespace compressai {
namespace {

using Input = nb::ndarray<const float, nb::ndim<4>, nb::device::cpu>;
using Output = nb::ndarray<float, nb::ndim<4>, nb::device::cpu>;
using NormArrays = std::tuple<Values, Values, double>;
using LinearArrays = std::tuple<Panels, Values>;

template <typename Array, typename T>
Map<T> map_of(const Array& array, T* data, const std::string& name) {
  check(array.stride(3) == 1 || array.shape(3) == 1,
        name + " must have its channels one behind another");
  for (std::size_t i = 0; i < 3; ++i) {
    check(array.stride(i) >= 0, name + " must not have negative strides");
  }
  return {data,
          array.shape(0),
          array.shape(1),
          array.shape(2),
          static_cast<std::size_t>(array.stride(0)),
          static_cast<std::size_t>(array.stride(1)),
          static_cast<std::size_t>(array.stride(2))};
}

Norm norm_of(const std::optional<NormArrays>& norm, std::size_t channels, const std::string& name) {
  if (!norm) return {};
  const auto& [weight, bias, epsilon] = *norm;
  check(weight.shape(0) == channels && bias.shape(0) == channels,
        name + " must have a weight and a bias for each channel of x, " + std::to_string(channels));
  return {weight.data(), bias.data(), static_cast<float>(epsilon)};
}

Linear linear_of(const LinearArrays& layer, std::size_t inputs, std::size_t outputs,
                 const std::string& name) {
  const auto& [weights, bias] = layer;
  const std::size_t panels = whole_panels(outputs) / kPanel;
  check(weights.shape(0) == panels && weights.shape(1) == inputs && weights.shape(2) == kPanel,
        name + " must have weights (" + std::to_string(panels) + ", " + std::to_string(inputs) +
            ", " + std::to_string(kPanel) + ")");
  check(bias.shape(0) == panels * kPanel,
        name + " must have " + std::to_string(panels * kPanel) + " biases");
  return {inputs, outputs, weights.data(), bias.data()};
}

void run(const Input& x, const Output& out, std::tuple<std::size_t, std::size_t> window,
         std::size_t shift, std::size_t heads, float scale, const Values& bias, bool skip,
         const std::optional<NormArrays>& norm1, const LinearArrays& qkv, const LinearArrays& proj,
         const std::optional<NormArrays>& norm2,
         const std::optional<std::tuple<std::size_t, LinearArrays, LinearArrays>>& mlp, int threads) {
  if (!kernels_available()) throw std::runtime_error("no kernels for this processor");
  const Map<const float> from = map_of(x, x.data(), "x");
  const Map<float> to = map_of(out, out.data(), "out");
  for (std::size_t i = 0; i < 4; ++i) {
    check(x.shape(i) == out.shape(i), "out must have the shape of x");
  }
  WindowBlock block;
  block.channels = x.shape(3);
  block.heads = heads;
  check(heads > 0 && block.channels > 0 && block.channels % heads == 0,
        "heads must divide the channels of x, got heads=" + std::to_string(heads) +
            " and " + std::to_string(block.channels) + " channels");
  std::tie(block.window_height, block.window_width) = window;
  check(std::min(block.window_height, block.window_width) > 0, "window must be positive");
  check(std::max(block.window_height, block.window_width) <= kLargestWindow,
        "window must be at most " + std::to_string(kLargestWindow));
  check(shift < std::min(block.window_height, block.window_width),
        "shift must be smaller than the window, got shift=" + std::to_string(shift));
  block.shift = shift;
  block.scale = scale;
  block.skip = skip;
  const std::size_t biases = block.kinds() * heads * block.positions() *
                             bias_columns(block.positions());
  check(bias.shape(0) == biases, "bias must have " + std::to_string(biases) + " values, got " +
                                     std::to_string(bias.shape(0)));
  block.bias = bias.data();
  block.norm1 = norm_of(norm1, block.channels, "norm1");
  block.norm2 = norm_of(norm2, block.channels, "norm2");
  block.qkv = linear_of(qkv, block.channels, 3 * block.channels, "qkv");
  block.proj = linear_of(proj, block.channels, block.channels, "proj");
  if (mlp) {
    const auto& [hidden, fc1, fc2] = *mlp;
    check(hidden > 0, "mlp must have hidden channels");
    block.fc1 = linear_of(fc1, block.channels, hidden, "fc1");
    block.fc2 = linear_of(fc2, hidden, block.channels, "fc2");
  }
  check_threads(threads);
  const nb::gil_scoped_release release;
  run_window_block(block, from, to, threads);
}

}  // namespace

void bind_window_block(nb::module_& m) {
  m.def("window_block", &run, "x"_a.noconvert(), "out"_a.noconvert(), "window"_a, "shift"_a, "heads"_a,
        "scale"_a, "bias"_a.noconvert(), "skip"_a, "norm1"_a.noconvert().none(),
        "qkv"_a.noconvert(), "proj"_a.noconvert(), "norm2"_a.noconvert().none(),
        "mlp"_a.noconvert().none(), "threads"_a,
        nb::sig("def window_block(x: Tensor, out: Tensor, window: tuple[int, int], shift: int, "
                "heads: int, scale: float, bias: Tensor, skip: bool, "
                "norm1: tuple[Tensor, Tensor, float] | None, qkv: tuple[Tensor, Tensor], "
                "proj: tuple[Tensor, Tensor], norm2: tuple[Tensor, Tensor, float] | None, "
                "mlp: tuple[int, tuple[Tensor, Tensor], tuple[Tensor, Tensor]] | None, "
                "threads: int) -> None"),
        docs::kWindowBlock);
}

}  // namespace compressai
