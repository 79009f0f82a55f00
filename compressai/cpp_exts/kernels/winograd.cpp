// SPDX-License-Identifier: BSD-3-Clause-Clear
// Convolutions of 3x3 and 5x5 with fewer multiplications.
#include "common.hpp"

namespace compressai {

// Convolution of stride 1 with as many zeros around as keep the size, by Winograd's F(4x4, 3x3),
// F(2x2, 5x5) or F(2x2, 3x3): about a quarter, a third or four ninths of the multiplications.
// (Lavin and Gray 2016, "Fast algorithms for convolutional neural networks".) Its weights are
// transformed, positions of panels. The last of them rounds about as much as a plain sum does.
//
// in_channels and out_channels must be multiples of 16, so must be the channels of the output if it
// is not planar.
struct WinogradConv : Layer {
  std::size_t kernel = 3;  // or 5
  // Side of the results that are computed together: 4 or 2 for 3x3 kernels, 2 for 5x5.
  std::size_t tile = 4;
  // Side of the pixels that they are computed from: 6 or 4.
  std::size_t points() const { return tile + kernel - 1; }
  std::size_t positions() const { return points() * points(); }
};

// Tiles of results.
struct WinogradBlock {
  std::size_t first, tiles;
  float* values;  // [position][tile][input], positions values_stride apart
  std::size_t values_stride;
  float* products;  // [position][tile][products_width], positions products_stride apart
  std::size_t products_stride;
  std::size_t products_width;  // outputs at once
  const float* zeros;          // as many as inputs
};

}  // namespace compressai

#ifdef KERNEL_INSTRUCTIONS

namespace compressai {
namespace {

// Of 6x6 pixels, the points of the interpolation are 0, A, -A, B, -B and infinity. With these two the
// rounding errors are smaller than with the usual 1 and 2. Of 4x4 pixels they are 0, 1, -1 and
// infinity, and rounding errors are hardly larger than those of the sums.
constexpr float kA = 0.70710678118654752f, kB = 1.41421356237309505f;
constexpr float kA2 = 0.5f, kB2 = 2.0f, kA3 = kA * kA2, kB3 = kB * kB2;

// One row of the transform of the input, B^T v.
template <std::size_t kPoints>
inline void transform_input(const Lanes* v, std::size_t step, Lanes* r, std::size_t out_step) {
  if constexpr (kPoints == 4) {
    r[0] = v[2 * step] - v[0];
    r[out_step] = v[2 * step] + v[step];
    r[2 * out_step] = v[2 * step] - v[step];
    r[3 * out_step] = v[3 * step] - v[step];
    return;
  }
  const Lanes v0 = v[0], v1 = v[step], v2 = v[2 * step], v3 = v[3 * step], v4 = v[4 * step],
              v5 = v[5 * step];
  r[0] = (kA2 * kB2) * v0 - (kA2 + kB2) * v2 + v4;
  const Lanes even_a = v4 - kB2 * v2, odd_a = kA * (v3 - kB2 * v1);
  r[out_step] = even_a + odd_a;
  r[2 * out_step] = even_a - odd_a;
  const Lanes even_b = v4 - kA2 * v2, odd_b = kB * (v3 - kA2 * v1);
  r[3 * out_step] = even_b + odd_b;
  r[4 * out_step] = even_b - odd_b;
  r[5 * out_step] = (kA2 * kB2) * v1 - (kA2 + kB2) * v3 + v5;
}

// One row of the transform of the products, A^T m.
template <std::size_t kPoints, std::size_t kSide>
inline void transform_output(const Lanes* m, std::size_t step, Lanes* y, std::size_t out_step) {
  if constexpr (kPoints == 4) {
    y[0] = m[0] + m[step] + m[2 * step];
    y[out_step] = m[step] - m[2 * step] + m[3 * step];
    return;
  }
  const Lanes even_a = m[step] + m[2 * step], odd_a = m[step] - m[2 * step];
  const Lanes even_b = m[3 * step] + m[4 * step], odd_b = m[3 * step] - m[4 * step];
  y[0] = m[0] + even_a + even_b;
  y[out_step] = kA * odd_a + kB * odd_b;
  if constexpr (kSide == 4) {
    y[2 * out_step] = kA2 * even_a + kB2 * even_b;
    y[3 * out_step] = kA3 * odd_a + kB3 * odd_b;
  }
  y[(kSide - 1) * out_step] += m[5 * step];
}

// The first pixel of a tile.
inline Pixel tile_at(const WinogradConv& call, std::size_t index) {
  const std::size_t tile = call.tile;
  const std::size_t down = (call.height + tile - 1) / tile, across = (call.width + tile - 1) / tile;
  return {index / (down * across), index / across % down * tile, index % across * tile};
}

// Values of the pixels around each tile, transformed: [position][tile][channel].
template <std::size_t kPoints>
inline void gather(const WinogradConv& call, const WinogradBlock& block) {
  const std::size_t channels = call.in_channels, border = call.kernel / 2;
  for (std::size_t t = 0; t < block.tiles; ++t) {
    const Pixel tile = tile_at(call, block.first + t);
    const float* pixels[kPoints * kPoints];
    for (std::size_t i = 0; i < kPoints; ++i) {
      for (std::size_t j = 0; j < kPoints; ++j) {
        // What is negative is huge.
        const std::size_t row = tile.row + i - border, column = tile.column + j - border;
        pixels[i * kPoints + j] =
            row < call.height && column < call.width
                ? call.x + ((tile.image * call.height + row) * call.width + column) * channels
                : block.zeros;
      }
    }
    float* values = block.values + t * channels;
    for (std::size_t c = 0; c < channels; c += kLanes) {
      Lanes rows[kPoints * kPoints], result[kPoints * kPoints];
      for (std::size_t j = 0; j < kPoints; ++j) {
        Lanes column[kPoints];
        for (std::size_t i = 0; i < kPoints; ++i) column[i] = load(pixels[i * kPoints + j] + c);
        transform_input<kPoints>(column, 1, rows + j, kPoints);
      }
      for (std::size_t i = 0; i < kPoints; ++i) {
        transform_input<kPoints>(rows + i * kPoints, 1, result + i * kPoints, 1);
      }
      for (std::size_t p = 0; p < kPoints * kPoints; ++p) {
        store(values + p * block.values_stride + c, result[p]);
      }
    }
  }
}

template <std::size_t kPoints, std::size_t kSide>
inline void scatter(const WinogradConv& call, const WinogradBlock& block, std::size_t first_channel,
                    std::size_t channels) {
  for (std::size_t t = 0; t < block.tiles; ++t) {
    const Pixel tile = tile_at(call, block.first + t);
    const std::size_t down = call.height - tile.row < kSide ? call.height - tile.row : kSide;
    const std::size_t across = call.width - tile.column < kSide ? call.width - tile.column : kSide;
    const float* products = block.products + t * block.products_width;
    for (std::size_t c = 0; c < channels; c += kLanes) {
      Lanes columns[kPoints * kSide], result[kSide * kSide];
      for (std::size_t j = 0; j < kPoints; ++j) {
        Lanes column[kPoints];
        for (std::size_t i = 0; i < kPoints; ++i) {
          column[i] = load(products + (i * kPoints + j) * block.products_stride + c);
        }
        transform_output<kPoints, kSide>(column, 1, columns + j, kPoints);
      }
      for (std::size_t i = 0; i < kSide; ++i) {
        transform_output<kPoints, kSide>(columns + i * kPoints, 1, result + i * kSide, 1);
      }
      const Target to = target(call, first_channel + c);
      for (std::size_t i = 0; i < down; ++i) {
        for (std::size_t j = 0; j < across; ++j) {
          write(call, result[i * kSide + j], {tile.image, tile.row + i, tile.column + j}, to);
        }
      }
    }
  }
}

template <std::size_t kPoints, std::size_t kSide>
inline void convolve(const WinogradConv& call, const WinogradBlock& block) {
  gather<kPoints>(call, block);
  const std::size_t panels = call.out_channels / kColumns;
  const std::size_t at_once = block.products_width / kColumns;
  for (std::size_t first = 0; first < panels; first += at_once) {
    const std::size_t count = panels - first < at_once ? panels - first : at_once;
    for (std::size_t p = 0; p < kPoints * kPoints; ++p) {
      multiply_panels<kPoints == 4 ? kExactSums : kLongSums>(
          block.values + p * block.values_stride, block.tiles, call.in_channels,
          call.weights + (p * panels + first) * call.in_channels * kColumns, count,
          block.products + p * block.products_stride, block.products_width);
    }
    scatter<kPoints, kSide>(call, block, first * kColumns, count * kColumns);
  }
}

}  // namespace

void KERNEL(winograd)(const WinogradConv& call, const WinogradBlock& block) {
  if (call.points() == 4) {
    convolve<4, 2>(call, block);
  } else if (call.tile == 4) {
    convolve<6, 4>(call, block);
  } else {
    convolve<6, 2>(call, block);
  }
}

}  // namespace compressai

#else

#include "layer_arguments.hpp"
#include "threads.hpp"

using namespace nanobind::literals;

namespace compressai {

KERNEL_VERSIONS(winograd, const WinogradConv& call, const WinogradBlock& block)

namespace {

constexpr const char* kConv3x3 = R"(3x3 convolution of stride 1 and padding 1, with fewer multiplications.

Args:
    x: ``(N, H, W, in_channels)``.
    weights: ``(36, out_channels / 16, in_channels, 16)``, transformed for F(4x4, 3x3): a
        quarter of the multiplications. Or ``(16, ...)`` for F(2x2, 3x3): four ninths of them,
        and results about as close to those of exact arithmetic as those of torch.
    bias: ``(out_channels,)``.
    slope: factor of negative results: 1 none, 0 ReLU, else leaky ReLU.
    gelu: GELU in place of these.
    residual: of the shape of ``out``; added behind the activation.
    activate_sum: whether the activation stands behind the residual.
    shuffle: factor of a pixel shuffle of the result; 1 is none.
    planes: if not 0, ``out`` is ``(N, planes, shuffle H, shuffle W)``, made of the first
        ``planes * shuffle**2`` results in the order (channel, row, column), and there is no
        residual to add and no ``activate_sum``.
    out: written to; ``(N, shuffle H, shuffle W, C)`` of the results in the order (row, column,
        channel), unless there are planes.
    threads: at most as many, and at most 256.

Source: Lavin and Gray 2016, "Fast algorithms for convolutional neural networks".)";

constexpr const char* kConv5x5 = R"(5x5 convolution of stride 1 and padding 2, with a third of the multiplications.

The arguments are those of :func:`conv3x3`, with weights transformed for F(2x2, 5x5).)";

// For 36 positions; more for less, since the weights are read once for each block.
constexpr std::size_t kMostTiles = 48, kLeastTiles = 24, kPositions = 36;
// Transformed values of a block: as many as the second-level cache holds.
constexpr std::size_t kValues = 512 * 1024 / sizeof(float);
// Between positions, so that the same place in all of them falls on different cache lines.
constexpr std::size_t kGap = 16;

void winograd_conv(const WinogradConv& call) {
  const auto run = winograd();
  const std::size_t tile = call.tile, positions = call.positions();
  const std::size_t count =
      call.batch * ((call.height + tile - 1) / tile) * ((call.width + tile - 1) / tile);
  if (count == 0) return;
  const std::size_t fitting = kValues / positions / call.in_channels;
  const std::size_t tiles_at_once = std::clamp(fitting, kLeastTiles * kPositions / positions,
                                               kMostTiles * kPositions / positions);
  const std::size_t most = tiles_at_once / kRowGroup * kRowGroup;
  const std::size_t tiles = block_size(count, most, call.threads);
  WinogradBlock block{};
  block.products_width = std::min(kMostOutputs, call.out_channels);
  block.values_stride = tiles * call.in_channels + kGap;
  block.products_stride = tiles * block.products_width + kGap;
  const std::size_t memory = positions * (block.values_stride + block.products_stride);
  const std::vector<float> zeros(call.in_channels);
  block.zeros = zeros.data();
  for_blocks(count, tiles, call.threads, memory,
             [&](float* scratch, std::size_t first, std::size_t size) {
               WinogradBlock mine = block;
               mine.first = first;
               mine.tiles = size;
               mine.values = scratch;
               mine.products = mine.values + positions * mine.values_stride;
               run(call, mine);
             });
}

// The positions of the weights tell the tile.
template <std::size_t kKernel>
void run_winograd(nb::handle x, nb::handle weights, nb::handle bias, float slope, bool gelu,
                  nb::handle residual, bool activate_sum, std::size_t shuffle, std::size_t planes,
                  nb::handle out, int threads) {
  const Arguments given(x, bias, residual, out);
  const InputMap transformed = take<const float, 4, Contiguous>(weights, "weights");
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


void bind(nb::module_& m) {
  DEFINE_CONVOLUTION(m, "conv3x3", &run_winograd<3>, kConv3x3);
  DEFINE_CONVOLUTION(m, "conv5x5", &run_winograd<5>, kConv5x5);
}

const Registered registered(&bind);

}  // namespace
}  // namespace compressai

#endif
