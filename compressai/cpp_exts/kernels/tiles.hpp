// SPDX-License-Identifier: BSD-3-Clause-Clear
// Products of matrices in float32 on processors that multiply tiles of bfloat16 (AMX).
//
// A float32 has 24 significant bits, a bfloat16 has 8: every value is the sum of three of them. Of the
// nine products of three pieces and three, the six largest are added up, in float32. What is left out
// is less than 2^-25 of each product, so that results are rounded about as those of any sum in float32
// are. That takes six times as many multiplications, but tiles do sixteen times as many at once as
// AVX-512 does. Values that are not finite, or that bfloat16 rounds to infinity, give NaN; what is
// smaller than 2^-126 counts as zero.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common.hpp"

namespace compressai {

// Whether this processor has tiles, and the system lets this process use them.
bool has_tiles();

// Rows and panels that are multiplied at once, and terms of a sum: a tile has 16 rows of 64 bytes.
constexpr std::size_t kTileRows = 16, kTileDepth = 32, kPieces = 3;

constexpr std::size_t tiled_depth(std::size_t depth) {
  return (depth + kTileDepth - 1) / kTileDepth * kTileDepth;
}
// Floats that take as much memory as a tile: 16 pairs of inputs of 16 outputs, or of 16 rows.
constexpr std::size_t kTileSize = kTileRows * kTileDepth / 2;
// Floats that take as much as the pieces of so many inputs of 16 outputs, or of 16 rows.
constexpr std::size_t pieces_size(std::size_t depth) {
  return tiled_depth(depth) / kTileDepth * kPieces * kTileSize;
}

// Inputs of one pass, so that the pieces of some hundred rows stay in the second-level cache.
constexpr std::size_t kTiledInputs = 960;
constexpr std::size_t tiled_inputs(std::size_t depth) {
  return depth < kTiledInputs ? depth : kTiledInputs;
}

struct TiledProduct {
  const float* values;  // [row][input]
  std::size_t rows;     // whole pairs of tiles are computed, but no row behind the last one is read
  std::size_t depth;    // inputs
  std::size_t begin, end;        // those of this pass; the first is a multiple of kTileDepth
  std::uint16_t* pieces;         // [tile of rows][step of 32 inputs][piece][row][input]
  const float* weights;          // [panel][step of 32 inputs][piece][pair of inputs][16 outputs][2]
  std::size_t first, panels;     // of the weights
  float* out;                    // [row][out_stride], in which later passes add to the first
  std::size_t out_stride;
};

// Splits values into pieces.
void split_values(const TiledProduct& call);
// Multiplies them by some panels of the weights.
void multiply_tiles(const TiledProduct& call);

}  // namespace compressai
