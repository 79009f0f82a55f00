// SPDX-License-Identifier: BSD-3-Clause-Clear
// Convolutions of 1x1, and what is computed like them.
#include "common.hpp"

namespace compressai {

// 1x1 convolution. With `gate` it is a generalised divisive normalisation (GDN) or its inverse: the
// convolution takes the squares (or magnitudes) of x, and x is scaled by the result.
//
// The same multiples; with `gate`, both are equal and there is no shuffle.
struct Conv1x1 : Layer {
  enum class Gate { kNone, kDivideByRoot, kTimesRoot, kDivide, kTimes };
  Gate gate = Gate::kNone;
};

struct PointwiseBlock {
  std::size_t first, pixels;
  float* values;    // [pixel][input]
  float* products;  // [pixel][products_width]
  std::size_t products_width;
};

}  // namespace compressai

#ifdef KERNEL_INSTRUCTIONS

namespace compressai {
namespace {

using Gate = Conv1x1::Gate;

// Terms of a sum in registers. More would round more than the layers of torch do.
constexpr std::size_t kPointwiseSums = 128;

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

// Bias, activation and residual, where each result goes to the place of its pixel.
inline void write_in_place(const Conv1x1& call, const PointwiseBlock& block, std::size_t channel,
                           std::size_t vectors) {
  for (std::size_t p = 0; p < block.pixels; ++p) {
    const float* const products = block.products + p * block.products_width;
    const std::size_t place = (block.first + p) * call.out_channels + channel;
    for (std::size_t c = 0; c < vectors * kLanes; c += kLanes) {
      Lanes value = load(products + c);
      if (call.bias) value += load(call.bias + channel + c);
      if (!call.activation.of_sum) value = activate(call.activation, value);
      if (call.residual) value += load(call.residual + place + c);
      if (call.activation.of_sum) value = activate(call.activation, value);
      store(call.out + place + c, value);
    }
  }
}

}  // namespace

void KERNEL(pointwise)(const Conv1x1& call, const PointwiseBlock& block) {
  const std::size_t depth = call.in_channels, panels = call.out_channels / kColumns;
  const std::size_t at_once = block.products_width / kColumns;
  const std::size_t rows = (block.pixels + kRows - 1) / kRows * kRows;
  const float* values = inputs(call, block, rows);
  for (std::size_t first = 0; first < panels; first += at_once) {
    const std::size_t count = panels - first < at_once ? panels - first : at_once;
    multiply_panels<kPointwiseSums>(values, rows, depth, call.weights + first * depth * kColumns, count,
                               block.products, block.products_width);
    const std::size_t vectors = count * kColumns / kLanes;
    if (call.gate == Gate::kNone && call.shuffle == 1 && !call.planes) {
      write_in_place(call, block, first * kColumns, vectors);
      continue;
    }
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
      ++at.image;
    }
  }
}

}  // namespace compressai

#else

#include "layer_arguments.hpp"
#include "threads.hpp"

using namespace nanobind::literals;

namespace compressai {

KERNEL_VERSIONS(pointwise, const Conv1x1& call, const PointwiseBlock& block)

namespace {

constexpr const char* kConv1x1 = R"(1x1 convolution, with the arguments of :func:`conv3x3`.

Args:
    weights: ``(out_channels / 16, in_channels, 16)``.)";

constexpr const char* kConv1x1Pair = R"(Two 1x1 convolutions, the second of what the first gives.

That is never a whole map: it is made and used for a few pixels at a time, while it is in the cache.

Args:
    x: ``(N, H, W, in_channels)``.
    hidden_weights: of the first, ``(hidden / 16, in_channels, 16)``.
    hidden_bias: ``(hidden,)``.
    hidden_slope, hidden_gelu: of the activation between them, as in :func:`conv3x3`.
    weights: of the second, ``(out_channels / 16, hidden, 16)``.
    bias, slope, gelu, residual, activate_sum: as in :func:`conv3x3`.
    out: written to, ``(N, H, W, out_channels)``.
    threads: at most as many, and at most 256.)";

constexpr const char* kGdn = R"(Generalised divisive normalisation, ``x / sqrt(beta + gamma x**2)``.

Args:
    x: ``(N, H, W, C)``.
    gamma: ``(C / 16, C, 16)``, panels of outputs.
    beta: ``(C,)``.
    inverse: multiply instead of dividing.
    rootless: with magnitudes in place of squares, and no root.
    residual: of the shape of ``out``; added last.
    out: written to.
    threads: at most as many, and at most 256.)";

constexpr std::size_t kPixels = 144;

void conv1x1(const Conv1x1& call) {
  const auto run = pointwise();
  const std::size_t count = call.batch * call.height * call.width;
  if (count == 0) return;
  const std::size_t pixels = block_size(count, kPixels, call.threads);
  const std::size_t width = std::min(kMostOutputs, call.out_channels);
  for_blocks(count, pixels, call.threads, pixels * (call.in_channels + width),
             [&](float* scratch, std::size_t first, std::size_t size) {
               PointwiseBlock block{};
               block.first = first;
               block.pixels = size;
               block.values = scratch;
               block.products = scratch + pixels * call.in_channels;
               block.products_width = width;
               run(call, block);
             });
}

void conv1x1_pair(const Conv1x1& first, const Conv1x1& second) {
  const auto run = pointwise();
  const std::size_t count = first.batch * first.height * first.width;
  if (count == 0) return;
  const std::size_t pixels = block_size(count, kPixels, first.threads);
  const std::size_t hidden = pixels * first.out_channels;
  const std::size_t width =
      std::min(kMostOutputs, std::max(first.out_channels, second.out_channels));
  const std::size_t values = pixels * std::max(first.in_channels, second.in_channels);
  for_blocks(count, pixels, first.threads, hidden + values + pixels * width,
             [&](float* scratch, std::size_t at, std::size_t size) {
               PointwiseBlock block{};
               block.pixels = size;
               block.values = scratch + hidden;
               block.products = block.values + values;
               // A map of one row, of these pixels.
               const auto layer = [&](Conv1x1 call) {
                 call.batch = call.height = 1;
                 call.width = size;
                 block.products_width = std::min(kMostOutputs, call.out_channels);
                 run(call, block);
               };
               Conv1x1 one = first, two = second;
               one.x += at * one.in_channels;
               one.out = scratch;
               layer(one);
               two.x = scratch;
               two.out += at * two.out_channels;
               if (two.residual) two.residual += at * two.out_channels;
               layer(two);
             });
}

void run_conv1x1_pair(nb::handle x, nb::handle hidden_weights, nb::handle hidden_bias,
                      float hidden_slope, bool hidden_gelu, nb::handle weights, nb::handle bias,
                      float slope, bool gelu, nb::handle residual, bool activate_sum,
                      nb::handle out, int threads) {
  const Arguments given(x, bias, residual, out);
  const Panels before = take_panels(hidden_weights, "hidden_weights");
  const Panels panels = take_panels(weights, "weights");
  const std::size_t hidden = before.shape(0) * kPanel;
  check(hidden > 0, "hidden_weights must have panels, got " + shape_of(before));
  check_shape(before, {before.shape(0), given.x.shape(3), kPanel}, "hidden_weights");
  check_shape(panels, {panels.shape(0), hidden, kPanel}, "weights");
  check_apart(given.out, before, "hidden_weights");
  Conv1x1 second;
  fill(second, given, panels, panels.shape(0) * kPanel, {slope, gelu, activate_sum}, 1, 0, threads);
  Conv1x1 first = second;
  first.out_channels = second.in_channels = hidden;
  first.weights = before.data();
  first.bias = first.residual = nullptr;
  first.activation = {hidden_slope, hidden_gelu};
  if (!hidden_bias.is_none()) {
    const Values values = take_values(hidden_bias, "hidden_bias");
    check_shape(values, {hidden}, "hidden_bias");
    check_apart(given.out, values, "hidden_bias");
    first.bias = values.data();
  }
  const nb::gil_scoped_release release;
  conv1x1_pair(first, second);
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


void bind(nb::module_& m) {
  DEFINE_CONVOLUTION(m, "conv1x1", &run_conv1x1, kConv1x1);
  m.def("conv1x1_pair", &run_conv1x1_pair, "x"_a, "hidden_weights"_a, "hidden_bias"_a.none(),
        "hidden_slope"_a, "hidden_gelu"_a, "weights"_a, "bias"_a.none(), "slope"_a, "gelu"_a,
        "residual"_a.none(), "activate_sum"_a, "out"_a, "threads"_a,
        nb::sig("def conv1x1_pair(x: Tensor, hidden_weights: Tensor, hidden_bias: Tensor | None, "
                "hidden_slope: float, hidden_gelu: bool, weights: Tensor, bias: Tensor | None, "
                "slope: float, gelu: bool, residual: Tensor | None, activate_sum: bool, "
                "out: Tensor, threads: int) -> None"),
        kConv1x1Pair);
  m.def("gdn", &run_gdn, "x"_a, "gamma"_a, "beta"_a, "inverse"_a, "rootless"_a,
        "residual"_a.none(), "out"_a, "threads"_a,
        nb::sig("def gdn(x: Tensor, gamma: Tensor, beta: Tensor, inverse: bool, rootless: bool, "
                "residual: Tensor | None, out: Tensor, threads: int) -> None"),
        kGdn);
}

const Registered registered(&bind);

}  // namespace
}  // namespace compressai

#endif
