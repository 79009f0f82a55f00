// SPDX-License-Identifier: BSD-3-Clause-Clear
// Many messages of equal length at once, on several threads. The results do not depend on the
// number of threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "cdf_tables.hpp"
#include "rans_encoder.hpp"

namespace compressai {

struct StreamBytes {
  const std::uint8_t* data;
  std::size_t size;
};

// `symbols` and `indexes` hold `batch` rows of `count`. `threads` = 0: one per processor. An
// std::invalid_argument names the first row that failed.
std::vector<EncodedStream> encode_batch(const std::int32_t* symbols, const std::int32_t* indexes,
                                        std::size_t batch, std::size_t count,
                                        const CdfTables& tables, std::size_t threads,
                                        Layout layout = Layout::kPlain);

// `indexes` and `out` hold streams.size() rows of `count`.
void decode_batch(const std::vector<StreamBytes>& streams, const std::int32_t* indexes,
                  std::size_t count, const CdfTables& tables, bool check_end, std::size_t threads,
                  std::int32_t* out);

}  // namespace compressai
