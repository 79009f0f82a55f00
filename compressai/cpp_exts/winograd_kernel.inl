// SPDX-License-Identifier: BSD-3-Clause-Clear
// Included once for each set of instructions, after kernel_common.inl.
#include "kernel_blocks.hpp"

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
                ? call.x + ((tile.picture * call.height + row) * call.width + column) * channels
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
          write(call, result[i * kSide + j], {tile.picture, tile.row + i, tile.column + j}, to);
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
