// SPDX-License-Identifier: BSD-3-Clause-Clear
// Cumulative frequency tables, checked once and laid out for coding. Immutable after
// construction, so any number of threads may code with the same tables.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "rans_format.hpp"

namespace compressai {

// A cumulative table as the caller has it: `data` has room for `size` entries.
struct CdfRow {
  const std::int32_t* data;
  std::size_t size;
};

class CdfTables {
 public:
  // One row, as the coding loops want it. Sixteen bytes, so that the rows in use stay cached.
  struct Row {
    std::uint32_t slots;       // position of the row's first slot in slots()
    std::uint32_t buckets;     // position of the row's first bucket
    std::int32_t offset;       // the value slot 0 stands for
    std::uint16_t escape;      // number of the escape slot, the last one
    std::uint16_t shift;       // a bucket covers 2^shift of the 65536 positions
  };

  // Throws std::invalid_argument naming the row and the rule that is broken. `sizes[r]` is the
  // number of valid entries of `rows[r]`; what lies behind them is padding and not read.
  CdfTables(const std::vector<CdfRow>& rows, const std::int32_t* sizes,
            const std::int32_t* offsets);

  std::size_t rows() const { return rows_.size(); }

  // A slot packed in 32 bits: its start below, its frequency less one above.
  static std::uint32_t pack(std::uint32_t start, std::uint32_t frequency) {
    return start | (frequency - 1) << 16;
  }
  static std::uint32_t start(std::uint32_t slot) { return slot & 0xffff; }
  static std::uint32_t frequency(std::uint32_t slot) { return (slot >> 16) + 1; }
  const std::uint32_t* slots() const { return slots_.data(); }

  // What one bucket of positions holds, packed in 64 bits. A bucket that touches one or two
  // slots: [frequency 0 | start 0 | frequency 1 | start 1], 16 bits each, lowest first; positions
  // from start 1 on belong to slot 1. A bucket within a single slot has it as slot 1 *and* slot 0.
  // Frequency 0 is zero in the remaining, crowded buckets, which search `slots()`.
  const std::uint64_t* buckets() const { return buckets_.data(); }
  // Number of the bucket's slot 0 (with one slot only: that slot less one, modulo 2^16); of a
  // crowded bucket, its first slot.
  const std::uint16_t* bucket_slots() const { return bucket_slots_.data(); }

  // The slot of `row` that covers `position` of a crowded bucket, by bisection between its ends.
  std::uint32_t search(const Row& row, std::uint32_t position) const;

  // The row of an index. Throws std::invalid_argument for one outside of the tables; `position`
  // is where the caller found it.
  const Row& row(std::int32_t index, std::size_t position) const {
    if (COMPRESSAI_UNLIKELY(static_cast<std::uint32_t>(index) >= rows_.size())) {
      refuse_index(index, position);
    }
    return rows_[static_cast<std::uint32_t>(index)];
  }

  // Whether all of some indexes are within the tables; their rows begin at first_row().
  bool has_rows(const std::int32_t* indexes, std::size_t count) const {
    bool all = true;
    for (std::size_t i = 0; i < count; ++i) {
      all &= static_cast<std::uint32_t>(indexes[i]) < rows_.size();
    }
    return all;
  }
  const Row* first_row() const { return rows_.data(); }

  // The cumulative table of a row, as it was given without padding.
  std::vector<std::int32_t> cdf(std::size_t row) const;

  // Bytes in use.
  std::size_t memory() const;

 private:
  void build_buckets(Row& row);
  [[noreturn]] COMPRESSAI_NOINLINE void refuse_index(std::int32_t index,
                                                     std::size_t position) const;

  std::vector<Row> rows_;
  std::vector<std::uint32_t> slots_;
  std::vector<std::uint64_t> buckets_;
  std::vector<std::uint16_t> bucket_slots_;
};

}  // namespace compressai
