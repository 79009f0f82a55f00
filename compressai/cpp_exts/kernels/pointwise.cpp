// SPDX-License-Identifier: BSD-3-Clause-Clear
// Convolutions of 1x1, and what is computed like them.
#include "common.hpp"
#include "tiles.hpp"

namespace compressai {

// 1x1 convolution. With `gate` it is a generalised divisive normalisation (GDN) or its inverse: the
// convolution takes the squares (or magnitudes) of x, and x is scaled by the result.
//
// The same multiples; with `gate`, both are equal and there is no shuffle.
struct Conv1x1 : Layer {
  enum class Gate { kNone, kDivideByRoot, kTimesRoot, kDivide, kTimes };
  Gate gate = Gate::kNone;
  // Into so many parts pixels, inputs and outputs are divided to save multiplications: 1 for none, 2 or
  // 4, in which inputs and outputs must be multiples of 16 (see products.inl). Weights are then those
  // of 7 or 49 products.
  std::size_t parts = 1;
  // Whether weights are pieces for tiles (see tiles.hpp); without gate or parts.
  bool tiled = false;
  std::size_t products() const { return parts == 1 ? 1 : parts == 2 ? 7 : 49; }
  // Panels of each part that are computed at once.
  std::size_t panels_at_once() const {
    const std::size_t all = out_channels / parts / kPanel, most = 32;
    return all < most ? all : most;
  }
};

struct PointwiseBlock {
  std::size_t first, pixels;
  float* values;    // [pixel][input]
  float* products;  // [pixel][products_width], or as PartedProduct has it
  std::size_t products_width;
  float* combined;  // of PartedProduct; or the pieces of TiledProduct, on a line of the cache
};

}  // namespace compressai

#ifdef KERNEL_INSTRUCTIONS

#include "products.inl"

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

// Results of some pixels and some vectors of channels.
struct Results {
  std::size_t first, pixels, channel, vectors;
  const float* products;
  std::size_t pixel_stride, panel_stride;

  Lanes at(std::size_t pixel, std::size_t vector) const {
    const std::size_t c = vector * kLanes;
    return load(products + pixel * pixel_stride + c / kColumns * panel_stride + c % kColumns);
  }
};

// Bias, activation and residual, where each result goes to the place of its pixel.
inline void write_in_place(const Conv1x1& call, const Results& results) {
  for (std::size_t p = 0; p < results.pixels; ++p) {
    const std::size_t place = (results.first + p) * call.out_channels + results.channel;
    for (std::size_t v = 0; v < results.vectors; ++v) {
      const std::size_t c = v * kLanes;
      Lanes value = results.at(p, v);
      if (call.bias) value += load(call.bias + results.channel + c);
      if (!call.activation.of_sum) value = activate(call.activation, value);
      if (call.residual) value += load(call.residual + place + c);
      if (call.activation.of_sum) value = activate(call.activation, value);
      store(call.out + place + c, value);
    }
  }
}

inline void write_results(const Conv1x1& call, const Results& results) {
  if (call.gate == Gate::kNone && call.shuffle == 1 && !call.planes) {
    write_in_place(call, results);
    return;
  }
  // Vectors whose places are kept.
  constexpr std::size_t kMost = kMostOutputs / kLanes;
  for (std::size_t begin = 0; begin < results.vectors; begin += kMost) {
    const std::size_t end = results.vectors - begin < kMost ? results.vectors : begin + kMost;
    Target targets[kMost];
    for (std::size_t v = begin; v < end; ++v) {
      targets[v - begin] = target(call, results.channel + v * kLanes);
    }
    const std::size_t first = results.first;
    Pixel at{first / call.width / call.height, first / call.width % call.height, first % call.width};
    for (std::size_t p = 0; p < results.pixels; ++p) {
      for (std::size_t v = begin; v < end; ++v) {
        const Target& to = targets[v - begin];
        if (call.gate == Gate::kNone) {
          write(call, results.at(p, v), at, to);
        } else {
          write_scaled(call, results.at(p, v), first + p, to.channel);
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

inline void compute_parts(const Conv1x1& call, const PointwiseBlock& block) {
  const std::size_t parts = call.parts, panels = call.out_channels / parts / kColumns;
  const std::size_t at_once = call.panels_at_once();
  const std::size_t each = (block.pixels + parts - 1) / parts;
  const std::size_t rows = (each + kRows - 1) / kRows * kRows;
  PartedProduct product{parts, call.products(), inputs(call, block, block.pixels), block.pixels,
                        call.in_channels, rows, call.weights, panels, 0, 0, block.combined,
                        block.products};
  for (std::size_t first = 0; first < panels; first += at_once) {
    product.first = first;
    product.count = panels - first < at_once ? panels - first : at_once;
    multiply_parts(product);
    for (std::size_t part = 0; part < parts * parts; ++part) {
      const std::size_t pixel = part / parts * rows;
      if (pixel >= block.pixels) break;
      const std::size_t left = block.pixels - pixel;
      write_results(call, {block.first + pixel, left < rows ? left : rows,
                           (part % parts * panels + first) * kColumns, product.count * kColumns / kLanes,
                           block.products + part * product.part_size(), kColumns, rows * kColumns});
    }
  }
}

#ifdef KERNEL_TILES
inline void compute_tiles(const Conv1x1& call, const PointwiseBlock& block) {
  const std::size_t panels = call.out_channels / kColumns, at_once = block.products_width / kColumns;
  TiledProduct product{call.x + block.first * call.in_channels, block.pixels, call.in_channels, 0, 0,
                       reinterpret_cast<std::uint16_t*>(block.combined), call.weights, 0, 0,
                       block.products, block.products_width};
  // Several passes have all panels at once (see PointwiseMemory); else pieces are made once for all.
  for (std::size_t first = 0; first < panels; first += at_once) {
    product.first = first;
    product.panels = panels - first < at_once ? panels - first : at_once;
    for (product.begin = 0; product.begin < call.in_channels; product.begin = product.end) {
      const std::size_t left = call.in_channels - product.begin;
      product.end = product.begin + tiled_inputs(left);
      if (first == 0) split_values(product);
      multiply_tiles(product);
    }
    write_results(call, {block.first, block.pixels, first * kColumns, product.panels,
                         block.products, block.products_width, kColumns});
  }
}
#endif

}  // namespace

void KERNEL(pointwise)(const Conv1x1& call, const PointwiseBlock& block) {
#ifdef KERNEL_TILES
  if (call.tiled) {
    compute_tiles(call, block);
    return;
  }
#endif
  if (call.parts > 1) {
    compute_parts(call, block);
    return;
  }
  const std::size_t depth = call.in_channels, panels = call.out_channels / kColumns;
  const std::size_t at_once = block.products_width / kColumns;
  const std::size_t rows = (block.pixels + kRows - 1) / kRows * kRows;
  const float* values = inputs(call, block, rows);
  for (std::size_t first = 0; first < panels; first += at_once) {
    const std::size_t count = panels - first < at_once ? panels - first : at_once;
    multiply_panels<kPointwiseSums>(values, rows, depth, call.weights + first * depth * kColumns, count,
                               block.products, block.products_width);
    write_results(call, {block.first, block.pixels, first * kColumns, count * kColumns / kLanes,
                         block.products, block.products_width, kColumns});
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
    weights: ``(out_channels / 16, in_channels, 16)``. Or of the 7 products of halves that take the
        place of 8, ``(7 out_channels / 32, in_channels / 2, 16)``, or, halving twice, of 49, ``(49
        out_channels / 64, in_channels / 4, 16)``; see
        :mod:`compressai.inference.fewer_products`. Or pieces, ``(out_channels / 16, 3
        ceil(in_channels / 32), 256)``, where :func:`has_tiles`; see
        :mod:`compressai.inference.tiles`.)";

constexpr const char* kConv1x1Pair = R"(Two 1x1 convolutions, the second of what the first gives.

That is never a whole map: it is made and used for a few pixels at a time, while it is in the cache.

Args:
    x: ``(N, H, W, in_channels)``.
    hidden_weights: of the first, ``(hidden / 16, in_channels, 16)``, or of products or pieces as in
        :func:`conv1x1`.
    hidden_bias: ``(hidden,)``.
    hidden_slope, hidden_gelu: of the activation between them, as in :func:`conv3x3`.
    weights: of the second, ``(out_channels / 16, hidden, 16)``, or of products or pieces.
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

// At once; of parts more, so that sums of them are made of as many rows.
constexpr std::size_t kPixels = 144, kPartedPixels = 288, kTiledPixels = 192;

// How many pixels are computed at once, such that little is left of groups of rows of the parts, or of
// tiles.
std::size_t pixels_at_once(std::size_t count, std::size_t parts, bool tiled, int threads) {
  if (parts == 1 && !tiled) return block_size(count, kPixels, threads);
  const std::size_t unit = tiled ? 2 * kTileRows : parts * (has_avx512() ? kRowGroup : kRowGroup / 2);
  const std::size_t most = tiled ? kTiledPixels : kPartedPixels;
  const std::size_t blocks = round_up((count + most - 1) / most, static_cast<std::size_t>(threads));
  return std::min(most, round_up((count + blocks - 1) / blocks, unit));
}

// Floats on a line of the cache, where tiles are best.
constexpr std::size_t kLine = 16;

float* on_a_line(float* memory) {
  const std::size_t beyond = reinterpret_cast<std::uintptr_t>(memory) / sizeof(float) % kLine;
  return memory + (kLine - beyond) % kLine;
}

// Of `pixels` pixels: memory for products, and behind them for sums of parts or for pieces.
struct PointwiseMemory {
  std::size_t width = 0, products = 0, combined = 0;

  PointwiseMemory(const Conv1x1& call, std::size_t pixels)
      : width(std::min(kMostOutputs, call.out_channels)), products(pixels * width) {
    if (call.tiled) {
      const std::size_t rows = round_up(pixels, 2 * kTileRows);
      if (call.in_channels > kTiledInputs) width = call.out_channels;
      products = rows * width;
      combined = rows / kTileRows * pieces_size(tiled_inputs(call.in_channels)) + kLine;
    }
    if (call.parts == 1) return;
    const std::size_t rows = round_up((pixels + call.parts - 1) / call.parts, kRowGroup);
    products = call.parts * call.parts * rows * call.panels_at_once() * kPanel;
    combined = rows * (call.in_channels / call.parts) + kLine;
  }
};

void conv1x1(const Conv1x1& call) {
  const auto run = pointwise();
  const std::size_t count = call.batch * call.height * call.width;
  if (count == 0) return;
  const std::size_t pixels = pixels_at_once(count, call.parts, call.tiled, call.threads);
  const std::size_t values = pixels * call.in_channels;
  const PointwiseMemory memory(call, pixels);
  for_blocks(count, pixels, call.threads, values + kLine + memory.products + memory.combined,
             [&](float* scratch, std::size_t first, std::size_t size) {
               float* const products = on_a_line(scratch + values);
               run(call, {first, size, scratch, products, memory.width,
                          on_a_line(products + memory.products)});
             });
}

void conv1x1_pair(const Conv1x1& first, const Conv1x1& second) {
  const auto run = pointwise();
  const std::size_t count = first.batch * first.height * first.width;
  if (count == 0) return;
  const std::size_t pixels =
      pixels_at_once(count, std::max(first.parts, second.parts), first.tiled || second.tiled,
                     first.threads);
  const std::size_t hidden = pixels * first.out_channels;
  const std::size_t values = pixels * std::max(first.in_channels, second.in_channels);
  const PointwiseMemory before(first, pixels), behind(second, pixels);
  const std::size_t most = std::max(before.products + before.combined, behind.products + behind.combined);
  for_blocks(count, pixels, first.threads, hidden + values + kLine + most,
             [&](float* scratch, std::size_t at, std::size_t size) {
               float* const products = on_a_line(scratch + hidden + values);
               // A map of one row, of these pixels.
               const auto layer = [&](Conv1x1 call, const PointwiseMemory& memory) {
                 call.batch = call.height = 1;
                 call.width = size;
                 run(call, {0, size, scratch + hidden, products, memory.width,
                            on_a_line(products + memory.products)});
               };
               Conv1x1 one = first, two = second;
               one.x += at * one.in_channels;
               one.out = scratch;
               layer(one, before);
               two.x = scratch;
               two.out += at * two.out_channels;
               if (two.residual) two.residual += at * two.out_channels;
               layer(two, behind);
             });
}

// Parts and outputs of a layer, as its weights tell them.
struct Division {
  std::size_t parts = 1, outputs = 0;
  bool tiled = false;

  Division(const Panels& weights, std::size_t inputs, const char* name) {
    const std::size_t depth = weights.shape(1);
    tiled = weights.shape(2) == kTileSize;
    if (tiled) {
      check(has_tiles(), std::string(name) + " must not be pieces on a processor without tiles, got " +
                             shape_of(weights));
      check_shape(weights, {weights.shape(0), pieces_size(inputs) / kTileSize, kTileSize}, name);
      outputs = weights.shape(0) * kPanel;
      return;
    }
    if (depth && (depth * 2 == inputs || depth * 4 == inputs)) parts = inputs / depth;
    const std::size_t products = parts == 1 ? 1 : parts == 2 ? 7 : 49;
    check_shape(weights, {weights.shape(0), inputs / parts, kPanel}, name);
    check(parts == 1 || depth % kPanel == 0,
          std::string(name) + " of parts must have multiples of 16 inputs, got " + shape_of(weights));
    check(weights.shape(0) % products == 0, std::string(name) + " must have panels for each of " +
                                                std::to_string(products) + " products, got " +
                                                shape_of(weights));
    outputs = weights.shape(0) / products * parts * kPanel;
  }
};

void run_conv1x1_pair(nb::handle x, nb::handle hidden_weights, nb::handle hidden_bias,
                      float hidden_slope, bool hidden_gelu, nb::handle weights, nb::handle bias,
                      float slope, bool gelu, nb::handle residual, bool activate_sum,
                      nb::handle out, int threads) {
  const Arguments given(x, bias, residual, out);
  const Panels before = take_panels(hidden_weights, "hidden_weights");
  const Panels panels = take_panels(weights, "weights");
  const Division inside(before, given.x.shape(3), "hidden_weights");
  const std::size_t hidden = inside.outputs;
  check(hidden > 0, "hidden_weights must have panels, got " + shape_of(before));
  const Division division(panels, hidden, "weights");
  check_apart(given.out, before, "hidden_weights");
  Conv1x1 second;
  fill(second, given, panels, division.outputs, {slope, gelu, activate_sum}, 1, 0, threads);
  second.parts = division.parts;
  second.tiled = division.tiled;
  Conv1x1 first = second;
  first.parts = inside.parts;
  first.tiled = inside.tiled;
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
  const Division division(panels, given.x.shape(3), "weights");
  Conv1x1 call;
  fill(call, given, panels, division.outputs, {slope, gelu, activate_sum}, shuffle, planes, threads);
  call.parts = division.parts;
  call.tiled = division.tiled;
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
