// SPDX-License-Identifier: BSD-3-Clause-Clear
// Transformer blocks on the windows of a map.
#include "window.hpp"

#ifdef KERNEL_INSTRUCTIONS

#include "attention.inl"
#include "rows.inl"

namespace compressai {
void KERNEL(window_block)(const WindowBlock& block, const WindowGroup& group) {
  const std::size_t channels = block.channels, stride = whole_panels(channels);
  const std::size_t qkv_stride = whole_panels(3 * channels);
  const std::size_t hidden_stride = whole_panels(block.fc1.outputs);
  const std::size_t tokens = group.tokens, positions = block.positions();
  float* const x = group.scratch;
  float* const normal = x + tokens * stride;
  float* const mixed = normal + tokens * stride;
  float* const wide = mixed + tokens * stride;  // queries, keys and values, then hidden channels
  float* const scratch = wide + tokens * (qkv_stride > hidden_stride ? qkv_stride : hidden_stride);

  for (std::size_t t = 0; t < tokens; ++t) {
    float* const row = x + t * stride;
    const float* const source = group.sources[t];
    const std::size_t filled = source == nullptr ? 0 : channels;
    for (std::size_t c = 0; c < filled; ++c) row[c] = source[c];
    for (std::size_t c = filled; c < stride; ++c) row[c] = 0;
  }

  const float* input = x;
  if (block.norm1.weight != nullptr) {
    normalize(block.norm1, channels, x, tokens, stride, normal);
    for (std::size_t t = 0; t < tokens; ++t) {
      if (group.sources[t] != nullptr) continue;
      for (std::size_t c = 0; c < channels; ++c) normal[t * stride + c] = 0;
    }
    input = normal;
  }
  linear<Then::kStore>(block.qkv, input, stride, tokens, wide, qkv_stride);

  const std::size_t dim = channels / block.heads, columns = bias_columns(positions);
  const Head head{positions,    dim,     qkv_stride, channels,
                  2 * channels, columns, stride,     block.scale};
  for (std::size_t first = 0, window = 0; first < tokens; first += positions, ++window) {
    for (std::size_t n = 0; n < block.heads; ++n) {
      const std::size_t table = group.kinds[window] * block.heads + n;
      attend(head, wide + first * qkv_stride + n * dim, block.bias + table * positions * columns,
             scratch, mixed + first * stride + n * dim);
    }
  }
  if (block.skip) {
    linear<Then::kAdd>(block.proj, mixed, stride, tokens, x, stride);
  } else {
    linear<Then::kStore>(block.proj, mixed, stride, tokens, x, stride);
  }

  if (block.fc1.outputs != 0) {
    input = x;
    if (block.norm2.weight != nullptr) {
      normalize(block.norm2, channels, x, tokens, stride, normal);
      input = normal;
    }
    linear<Then::kGelu>(block.fc1, input, stride, tokens, wide, hidden_stride);
    linear<Then::kAdd>(block.fc2, wide, hidden_stride, tokens, x, stride);
  }

  for (std::size_t t = 0; t < tokens; ++t) {
    float* const target = group.targets[t];
    if (target == nullptr) continue;
    for (std::size_t c = 0; c < channels; ++c) target[c] = x[t * stride + c];
  }
}

}  // namespace compressai

#else

#include <nanobind/ndarray.h>
#include <nanobind/stl/tuple.h>
#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "../team.hpp"
#include "arguments.hpp"

using namespace nanobind::literals;

namespace compressai {

KERNEL_VERSIONS(window_block, const WindowBlock& block, const WindowGroup& group)

namespace {

constexpr const char* kWindowBlock = R"(Transformer block on the windows of a map.

``x = [x +] proj(attention(norm1(x)))``, then ``x + fc2(gelu(fc1(norm2(x))))`` if there is
a feed-forward network. The map is padded on the right and at the bottom to whole windows,
with zeros behind ``norm1``, and rolled up and to the left by ``shift``.

Linear layers are pairs of ``(ceil(out / 16), in, 16)`` weights, zeros behind the last
output, and the bias of all of these outputs.

Args:
    x: ``(N, H, W, C)``, any C; may be some channels of a wider map.
    out: likewise, written to; may be ``x``, or other channels of the map that has ``x``.
    window: height and width, at most 64.
    shift: smaller than both.
    heads: number of them, a divisor of C.
    scale: factor of the dot products.
    bias: added to the logits times log2(e): ``(kinds, heads, keys, queries)`` in one
        dimension, where keys are the positions of a window, and queries too, rounded up to
        a multiple of 32. There is one kind without shift, else there are four: for inner
        windows, those at the right, those at the bottom, the corner.
    skip: whether ``x`` is added to the attention.
    norm1: weight, bias and epsilon of a layer normalisation.
    qkv: linear layer, queries before keys before values, heads major in each.
    proj: linear layer behind the attention.
    norm2: as ``norm1``.
    mlp: hidden channels and two linear layers.
    threads: at most as many, and at most 256.

Source: Liu et al. 2021, "Swin transformer".)";

// -- threads -------------------------------------------------------------------------------------

constexpr std::size_t kTokens = 64;  // windows are taken together up to about so many positions
constexpr std::size_t kMaxTile = 32;  // queries that any kernel works on together

// Floats of scratch.
std::size_t window_scratch(const WindowBlock& block, std::size_t tokens) {
  const std::size_t wide =
      std::max(whole_panels(3 * block.channels), whole_panels(block.fc1.outputs));
  const std::size_t positions = block.positions(), dim = block.channels / block.heads;
  const std::size_t attention = dim * bias_columns(positions) + 2 * positions * dim +
                                positions * kMaxTile + 4 * kMaxTile;
  return tokens * (3 * whole_panels(block.channels) + wide) + attention;
}

// What one thread works with.
struct Workspace {
  Workspace(const WindowBlock& block, std::size_t windows)
      : sources(windows * block.positions()),
        targets(windows * block.positions()),
        kinds(windows),
        memory(window_scratch(block, windows * block.positions()) + 16) {}

  float* scratch() {
    const auto address = reinterpret_cast<std::uintptr_t>(memory.data());
    return memory.data() + (64 - address % 64) % 64 / sizeof(float);
  }

  std::vector<const float*> sources;
  std::vector<float*> targets;
  std::vector<std::size_t> kinds;
  std::vector<float> memory;
};


void run_window_block(const WindowBlock& block, const Map<const float>& x, const Map<float>& out,
                      int threads) {
  const auto run = window_block();
  const std::size_t h = block.window_height, w = block.window_width, positions = h * w;
  const std::size_t down = (x.height + h - 1) / h, across = (x.width + w - 1) / w;
  const std::size_t windows = x.batch * down * across;
  const std::size_t together = std::max<std::size_t>(1, kTokens / positions);
  const std::size_t groups = (windows + together - 1) / together;
  const std::size_t parts = std::min<std::size_t>(
      static_cast<std::size_t>(std::clamp(threads, 1, kMostThreads)), std::max<std::size_t>(groups, 1));

  std::vector<Workspace> workspaces;
  workspaces.reserve(parts);
  for (std::size_t i = 0; i < parts; ++i) workspaces.emplace_back(block, together);

  const auto place = [&](std::size_t index, std::size_t at, Workspace& space) {
    const std::size_t image = index / (down * across);
    const std::size_t i = index / across % down, j = index % across;
    for (std::size_t t = 0; t < positions; ++t) {
      const std::size_t row = (i * h + t / w + block.shift) % (down * h);
      const std::size_t column = (j * w + t % w + block.shift) % (across * w);
      const bool inside = row < x.height && column < x.width;
      space.sources[at * positions + t] =
          !inside ? nullptr
                  : x.data + image * x.image_stride + row * x.row_stride + column * x.token_stride;
      space.targets[at * positions + t] =
          !inside ? nullptr
                  : out.data + image * out.image_stride + row * out.row_stride +
                        column * out.token_stride;
    }
    const std::size_t bottom = i + 1 == down, right = j + 1 == across;
    space.kinds[at] = block.shift == 0 ? 0 : 2 * bottom + right;
  };
  const auto work = [&](std::size_t part) {
    Workspace& space = workspaces[part];
    for (std::size_t g = groups * part / parts; g < groups * (part + 1) / parts; ++g) {
      const std::size_t first = g * together, count = std::min(together, windows - first);
      for (std::size_t at = 0; at < count; ++at) place(first + at, at, space);
      run(block, {count * positions, space.sources.data(), space.targets.data(),
                     space.kinds.data(), space.scratch()});
    }
  };
  share_items(static_cast<std::ptrdiff_t>(parts), static_cast<int>(parts),
              [&](std::size_t, std::ptrdiff_t part) { work(static_cast<std::size_t>(part)); });
}

// -- arguments -----------------------------------------------------------------------------------

using Input = Strided<const float, 4>;
using Output = Strided<float, 4>;

// Keeps products of sizes within size_t.
constexpr std::size_t kMostChannels = std::size_t{1} << 24;

struct NormArrays {
  NormArrays(nb::handle given, const std::string& name) {
    const nb::tuple items = take_items(given, 3, name, "None or (weight, bias, epsilon)");
    weight = take_values(items[0], "the weight of " + name);
    bias = take_values(items[1], "the bias of " + name);
    if (!nb::try_cast(items[2], epsilon)) {
      refuse_type("the epsilon of " + name, "a number", items[2]);
    }
  }
  Values weight, bias;
  float epsilon = 0;
};

std::optional<NormArrays> take_norm(nb::handle given, const std::string& name) {
  if (given.is_none()) return std::nullopt;
  return NormArrays(given, name);
}

struct LinearArrays {
  LinearArrays(nb::handle given, const std::string& name) {
    const nb::tuple items = take_items(given, 2, name, "(weights, bias)");
    weights = take_panels(items[0], "the weights of " + name);
    bias = take_values(items[1], "the bias of " + name);
  }
  Panels weights;
  Values bias;
};

struct MlpArrays {
  explicit MlpArrays(nb::handle given) : MlpArrays(take_items(given, 3, "mlp", kRule)) {}

  std::size_t hidden = 0;
  LinearArrays fc1, fc2;

 private:
  static constexpr const char* kRule = "None or (hidden channels, fc1, fc2)";

  explicit MlpArrays(const nb::tuple& items) : fc1(items[1], "fc1 of mlp"), fc2(items[2], "fc2 of mlp") {
    if (!nb::try_cast(items[0], hidden)) {
      refuse_type("the hidden channels of mlp", "an integer of at least 0", items[0]);
    }
  }
};

template <typename Array, typename T>
Map<T> map_of(const Array& array, T* data, const std::string& name) {
  check(array.stride(3) == 1 || array.shape(3) <= 1,
        name + " must have its channels one behind another, got a stride of " +
            std::to_string(array.stride(3)));
  std::size_t strides[3] = {};  // those of a single element are anything
  for (std::size_t i = 0; i < 3; ++i) {
    if (array.shape(i) <= 1) continue;
    check(array.stride(i) >= 0,
          name + " must not have negative strides, got " + std::to_string(array.stride(i)));
    strides[i] = static_cast<std::size_t>(array.stride(i));
  }
  return {data,       array.shape(0), array.shape(1), array.shape(2),
          strides[0], strides[1],     strides[2]};
}

// Whether `width` values from each position of a map on are its own and no other position's.
template <typename T>
bool is_nested(const Map<T>& map, std::size_t width) {
  std::array<std::pair<std::size_t, std::size_t>, 3> axes = {
      {{map.image_stride, map.batch}, {map.row_stride, map.height}, {map.token_stride, map.width}}};
  std::sort(axes.begin(), axes.end());
  for (const auto& [stride, size] : axes) {
    if (size == 0) return true;
  }
  std::size_t extent = width;
  for (const auto& [stride, size] : axes) {
    if (size == 1) continue;
    if (stride < extent) return false;
    extent += (size - 1) * stride;
  }
  return true;
}

// Whether each window may be written as soon as it is computed: `out` is x itself, or shares no
// memory with it, or both are channels of one map and none of them is in both.
bool may_write(const Map<const float>& x, const Map<float>& out, std::size_t channels,
               bool extents_meet) {
  if (!extents_meet) return true;
  if (x.image_stride != out.image_stride || x.row_stride != out.row_stride ||
      x.token_stride != out.token_stride) {
    return false;
  }
  const auto from = reinterpret_cast<std::uintptr_t>(x.data);
  const auto to = reinterpret_cast<std::uintptr_t>(out.data);
  const std::size_t distance = (from > to ? from - to : to - from) / sizeof(float);
  return distance == 0 || (distance >= channels && is_nested(out, distance + channels));
}

Norm norm_of(const std::optional<NormArrays>& norm, std::size_t channels, const Output& out,
             const std::string& name) {
  if (!norm) return {};
  check(norm->weight.shape(0) == channels && norm->bias.shape(0) == channels,
        name + " must have a weight and a bias for each channel of x, " +
            std::to_string(channels) + ", got " + shape_of(norm->weight) + " and " +
            shape_of(norm->bias));
  check_apart(out, norm->weight, "the weight of " + name);
  check_apart(out, norm->bias, "the bias of " + name);
  return {norm->weight.data(), norm->bias.data(), norm->epsilon};
}

Linear linear_of(const LinearArrays& layer, std::size_t inputs, std::size_t outputs,
                 const Output& out, const std::string& name) {
  const std::size_t panels = whole_panels(outputs) / kPanel;
  check(layer.weights.shape(0) == panels && layer.weights.shape(1) == inputs &&
            layer.weights.shape(2) == kPanel,
        name + " must have weights (" + std::to_string(panels) + ", " + std::to_string(inputs) +
            ", " + std::to_string(kPanel) + "), got " + shape_of(layer.weights));
  check(layer.bias.shape(0) == panels * kPanel,
        name + " must have " + std::to_string(panels * kPanel) + " biases, got " +
            shape_of(layer.bias));
  check_apart(out, layer.weights, "the weights of " + name);
  check_apart(out, layer.bias, "the bias of " + name);
  return {inputs, outputs, layer.weights.data(), layer.bias.data()};
}

void run(nb::handle given_x, nb::handle given_out, std::tuple<std::size_t, std::size_t> window,
         std::size_t shift, std::size_t heads, float scale, nb::handle given_bias, bool skip,
         nb::handle given_norm1, nb::handle given_qkv, nb::handle given_proj,
         nb::handle given_norm2, nb::handle given_mlp, int threads) {
  check_available();
  const auto x = take<const float, 4, Strided>(given_x, "x");
  const auto out = take<float, 4, Strided>(given_out, "out");
  const Values bias = take_values(given_bias, "bias");
  const auto norm1 = take_norm(given_norm1, "norm1"), norm2 = take_norm(given_norm2, "norm2");
  const LinearArrays qkv(given_qkv, "qkv"), proj(given_proj, "proj");
  std::optional<MlpArrays> mlp;
  if (!given_mlp.is_none()) mlp.emplace(given_mlp);

  const Map<const float> from = map_of(x, x.data(), "x");
  const Map<float> to = map_of(out, out.data(), "out");
  for (std::size_t i = 0; i < 4; ++i) {
    check(x.shape(i) == out.shape(i),
          "out must have the shape of x, " + shape_of(x) + ", got " + shape_of(out));
  }
  WindowBlock block;
  block.channels = x.shape(3);
  block.heads = heads;
  check(heads > 0 && block.channels > 0 && block.channels % heads == 0,
        "heads must divide the channels of x, got heads=" + std::to_string(heads) +
            " and " + std::to_string(block.channels) + " channels");
  check(block.channels <= kMostChannels, "x must have at most " + std::to_string(kMostChannels) +
                                             " channels, got " + std::to_string(block.channels));
  check(is_nested(to, block.channels),
        "out must have a place for each of its elements, got strides that share one");
  check(may_write(from, to, block.channels, Extent::of(x).meets(Extent::of(out))),
        "out must be x, or other channels of the same map, or share no memory with x, got maps "
        "that overlap");
  std::tie(block.window_height, block.window_width) = window;
  const std::string got = ", got " + std::to_string(block.window_height) + " and " +
                          std::to_string(block.window_width);
  check(std::min(block.window_height, block.window_width) > 0, "window must be positive" + got);
  check(std::max(block.window_height, block.window_width) <= kLargestWindow,
        "window must be at most " + std::to_string(kLargestWindow) + got);
  check(shift < std::min(block.window_height, block.window_width),
        "shift must be smaller than the window, got shift=" + std::to_string(shift));
  block.shift = shift;
  block.scale = scale;
  block.skip = skip;
  const std::size_t biases = block.kinds() * heads * block.positions() *
                             bias_columns(block.positions());
  check(bias.shape(0) == biases, "bias must have " + std::to_string(biases) + " values, got " +
                                     std::to_string(bias.shape(0)));
  check_apart(out, bias, "bias");
  block.bias = bias.data();
  block.norm1 = norm_of(norm1, block.channels, out, "norm1");
  block.norm2 = norm_of(norm2, block.channels, out, "norm2");
  block.qkv = linear_of(qkv, block.channels, 3 * block.channels, out, "qkv");
  block.proj = linear_of(proj, block.channels, block.channels, out, "proj");
  if (mlp) {
    check(mlp->hidden > 0 && mlp->hidden <= kMostChannels,
          "mlp must have hidden channels, at most " + std::to_string(kMostChannels) + ", got " +
              std::to_string(mlp->hidden));
    block.fc1 = linear_of(mlp->fc1, block.channels, mlp->hidden, out, "fc1 of mlp");
    block.fc2 = linear_of(mlp->fc2, mlp->hidden, block.channels, out, "fc2 of mlp");
  }
  check_threads(threads);
  const nb::gil_scoped_release release;
  run_window_block(block, from, to, threads);
}

void bind(nb::module_& m) {
  m.def("window_block", &run, "x"_a, "out"_a, "window"_a, "shift"_a, "heads"_a,
        "scale"_a, "bias"_a, "skip"_a, "norm1"_a.none(),
        "qkv"_a, "proj"_a, "norm2"_a.none(),
        "mlp"_a.none(), "threads"_a,
        nb::sig("def window_block(x: Tensor, out: Tensor, window: tuple[int, int], shift: int, "
                "heads: int, scale: float, bias: Tensor, skip: bool, "
                "norm1: tuple[Tensor, Tensor, float] | None, qkv: tuple[Tensor, Tensor], "
                "proj: tuple[Tensor, Tensor], norm2: tuple[Tensor, Tensor, float] | None, "
                "mlp: tuple[int, tuple[Tensor, Tensor], tuple[Tensor, Tensor]] | None, "
                "threads: int) -> None"),
        kWindowBlock);
}

const Registered registered(&bind);

}  // namespace
}  // namespace compressai

#endif
