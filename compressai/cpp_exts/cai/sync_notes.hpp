// SPDX-License-Identifier: BSD-3-Clause-Clear
// What a string of synchronised coding tells before its symbols: how the encoder rounded. The layout
// is in docs/synchrony.md; compressai/entropy_models/_sync_stream.py is its other reader and writer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "../rans_decoder.hpp"
#include "../rans_encoder.hpp"

namespace compressai::cai {

constexpr std::size_t kMaxBlocks = 4096;

// Elements whose result is told rather than computed, in ascending order.
struct Exceptions {
  std::vector<std::int32_t> elements;
  std::vector<std::int32_t> results;

  void apply(std::vector<std::int32_t>& to) const;
};

struct Rounding {
  std::vector<std::int32_t> ranks;  // the shift of each block; their number is a power of two
  Exceptions scales;                // results are numbers of levels
  Exceptions values;                // results are numbers of steps
};

// Of a latent of `elements`. Throws std::invalid_argument for a damaged string.
Rounding read_rounding(StreamReader& stream, std::size_t elements);
void write_rounding(OperationQueue& stream, const Rounding& rounding);

}  // namespace compressai::cai
