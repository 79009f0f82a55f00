// SPDX-License-Identifier: BSD-3-Clause-Clear
// The .cai file, version 2, whose layout is in compressai/bitstream/container.py, and the grid of
// its tiles, as in compressai/bitstream/tiling.py.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "fields.hpp"

namespace compressai::cai {

constexpr std::uint64_t kMinTile = 64;

struct Box {
  std::uint64_t x, y, width, height;
  bool meets(const Box& other) const;
};

// Throws Failure (kInvalidArgument) for sides or overlaps that are not allowed.
class Tiling {
 public:
  Tiling(std::uint64_t width, std::uint64_t height, std::uint64_t size, std::uint64_t overlap);

  std::uint64_t count() const;  // at most 2^63, whatever was asked for
  Box box(std::uint64_t index) const;
  std::vector<std::uint64_t> meeting(const Box& region) const;
  // How much each column or row of a tile counts; a pixel counts by the product.
  std::vector<float> column_weights(std::uint64_t index) const;
  std::vector<float> row_weights(std::uint64_t index) const;

  std::uint64_t width, height, size, overlap;

 private:
  std::uint64_t columns() const { return places(width); }
  std::uint64_t places(std::uint64_t length) const;
  std::uint64_t start(std::uint64_t place) const { return place * (size - overlap); }
  std::uint64_t extent(std::uint64_t place, std::uint64_t length) const;
  std::vector<float> ramps(std::uint64_t place, std::uint64_t length) const;
};

// The next multiple.
inline std::uint64_t padded(std::uint64_t side, std::uint64_t multiple) {
  return (side + multiple - 1) / multiple * multiple;
}

struct Tile {
  std::vector<Bytes> strings;  // as they lie in the file, which is the order of coding
  std::uint8_t hash[8] = {};
};

struct Container {
  std::string model, mode, source_mode;
  std::uint64_t width = 0, height = 0, tile_size = 0, tile_overlap = 0;
  double quality = -1;  // below 0: none
  int metric = 255;
  bool on_scale = false, random_weights = false, sync_safe = false, has_hashes = false;
  std::uint8_t fingerprint[8] = {};
  std::vector<Tile> tiles;
  Bytes alpha, icc, exif;

  Tiling tiling() const { return {width, height, tile_size, tile_overlap}; }
};

// The nearest quality on a scale that a file can tell.
double on_steps(double quality);
// Everything in it points into `bytes`. Throws Failure for all but an intact file.
Container read_container(Bytes bytes);
// The file. Throws Failure (kInvalidArgument) for a name that has no place in it.
Buffer write_container(const Container& container);

}  // namespace compressai::cai
