// SPDX-License-Identifier: BSD-3-Clause-Clear
// The decoder: from the words of a stream back to symbols. Streams may come from anywhere, so
// every read is bounded and every impossible state is an std::invalid_argument.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cdf_tables.hpp"
#include "rans_format.hpp"

namespace compressai {

// A position in a stream. It does not own the bytes, copies are independent.
class StreamReader {
 public:
  // Both layouts. Throws std::invalid_argument if the size is not a multiple of 4, if there are less
  // bytes than the states take, or if they are not states an encoder can have.
  StreamReader(const std::uint8_t* bytes, std::size_t size);

  // Decodes one symbol for each index. After an exception (index outside the tables, end of the
  // stream, impossible escape) the position is unspecified and `out` partly written.
  void decode(const std::int32_t* indexes, std::size_t count, const CdfTables& tables,
              std::int32_t* out);

  // Every word is consumed and the states are the encoder's first: true after the last symbol of an
  // undamaged stream.
  bool finished() const;
  // Throws std::invalid_argument unless finished().
  void check_finished() const;

 private:
  std::uint32_t nibble(std::uint64_t& state);
  std::int32_t escape(const CdfTables::Row& row, std::uint64_t& state);
  void refill(std::uint64_t& state);
  std::int32_t symbol(std::int32_t index, std::size_t place, const CdfTables& tables,
                      std::uint64_t& state);
  void decode_plain(const std::int32_t* indexes, std::size_t count, const CdfTables& tables,
                    std::int32_t* out);
  void decode_interleaved(const std::int32_t* indexes, std::size_t count, const CdfTables& tables,
                          std::int32_t* out);

  std::uint64_t states_[kLanes];
  std::size_t lanes_ = 1;
  std::size_t lane_ = 0;  // whose turn it is
  const std::uint8_t* position_;
  const std::uint8_t* end_;
};

}  // namespace compressai
