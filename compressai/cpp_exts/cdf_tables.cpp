// SPDX-License-Identifier: BSD-3-Clause-Clear
#include "cdf_tables.hpp"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <string>

namespace compressai {
namespace {

// A row has at least as many buckets as slots, in these limits. More buckets mean less crowded
// ones, but also more memory than the caches hold near: beyond this, both cancel out.
constexpr int kMinBucketBits = 6;
constexpr int kMaxBucketBits = 11;

int bucket_bits(std::int32_t slots) {
  int bits = kMinBucketBits;
  while (bits < kMaxBucketBits && (std::int32_t{1} << bits) < slots) ++bits;
  return bits;
}

[[noreturn]] void refuse(std::size_t row, const std::string& what) {
  throw std::invalid_argument("cdfs row " + std::to_string(row) + " " + what);
}

[[noreturn]] void refuse_order(std::size_t row, const std::int32_t* cdf, std::size_t size) {
  for (std::size_t i = 1; i < size; ++i) {
    if (cdf[i] <= cdf[i - 1]) {
      refuse(row, "must increase strictly, got " + std::to_string(cdf[i - 1]) + ", " +
                      std::to_string(cdf[i]) + " at positions " + std::to_string(i - 1) + ", " +
                      std::to_string(i));
    }
  }
  throw std::logic_error("refuse_order: the row increases");
}

void check_row(std::size_t row, const CdfRow& cdf, std::int32_t size, std::int32_t offset) {
  if (size < 2) {
    throw std::invalid_argument("cdfs_sizes[" + std::to_string(row) +
                                "] must be at least 2, got " + std::to_string(size));
  }
  if (static_cast<std::size_t>(size) > cdf.size) {
    throw std::invalid_argument("cdfs_sizes[" + std::to_string(row) +
                                "] must not exceed the row's length " +
                                std::to_string(cdf.size) + ", got " + std::to_string(size));
  }
  if (cdf.data[0] != 0) refuse(row, "must start with 0, got " + std::to_string(cdf.data[0]));
  if (cdf.data[size - 1] != static_cast<std::int32_t>(kTotal)) {
    refuse(row, "must end with 65536 at position cdfs_sizes - 1 = " + std::to_string(size - 1) +
                    ", got " + std::to_string(cdf.data[size - 1]));
  }
  // Only now: with both ends right and every step up, all entries are within 0..65536.
  bool increasing = true;
  for (std::int32_t i = 1; i < size; ++i) increasing &= cdf.data[i] > cdf.data[i - 1];
  if (!increasing) refuse_order(row, cdf.data, static_cast<std::size_t>(size));
  const std::int64_t last = std::int64_t{offset} + size - 3;
  if (last > std::numeric_limits<std::int32_t>::max()) {
    throw std::invalid_argument("offsets[" + std::to_string(row) + "] must leave the row's last " +
                                "value within int32, got " + std::to_string(offset));
  }
}

}  // namespace

CdfTables::CdfTables(const std::vector<CdfRow>& rows, const std::int32_t* sizes,
                     const std::int32_t* offsets) {
  std::size_t total = 0, buckets = 0;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    check_row(r, rows[r], sizes[r], offsets[r]);
    total += static_cast<std::size_t>(sizes[r]) - 1;
    buckets += std::size_t{1} << bucket_bits(sizes[r] - 1);
  }
  if (total > std::numeric_limits<std::uint32_t>::max() / 64) {
    throw std::invalid_argument("cdfs must have less than 2^26 slots together, got " +
                                std::to_string(total));
  }
  rows_.reserve(rows.size());
  slots_.reserve(total);
  buckets_.reserve(buckets);
  bucket_slots_.reserve(buckets);
  for (std::size_t r = 0; r < rows.size(); ++r) {
    Row row{};
    row.slots = static_cast<std::uint32_t>(slots_.size());
    row.offset = offsets[r];
    row.escape = static_cast<std::uint16_t>(sizes[r] - 2);
    const std::int32_t* cdf = rows[r].data;
    for (std::int32_t i = 0; i + 1 < sizes[r]; ++i) {
      slots_.push_back(pack(static_cast<std::uint32_t>(cdf[i]),
                            static_cast<std::uint32_t>(cdf[i + 1] - cdf[i])));
    }
    build_buckets(row);
    rows_.push_back(row);
  }
}

void CdfTables::build_buckets(Row& row) {
  const std::uint32_t* slots = slots_.data() + row.slots;
  const int bits = bucket_bits(std::int32_t{row.escape} + 1);
  const std::size_t count = std::size_t{1} << bits;
  row.shift = static_cast<std::uint16_t>(kPrecision - bits);
  row.buckets = static_cast<std::uint32_t>(buckets_.size());
  std::uint32_t first = 0;  // the slot that covers the bucket's first position
  for (std::size_t b = 0; b < count; ++b) {
    const std::uint32_t end = static_cast<std::uint32_t>(b + 1) << row.shift;
    std::uint32_t last = first;  // the slot that covers the bucket's last position
    while (start(slots[last]) + frequency(slots[last]) < end) ++last;
    const std::uint32_t a = slots[first], z = slots[last];
    const auto half = [](std::uint32_t slot) {
      return std::uint64_t{frequency(slot) & 0xffff} | std::uint64_t{start(slot)} << 16;
    };
    if (frequency(a) == kTotal || last > first + 1) {
      buckets_.push_back(std::uint64_t{last} << 32);
      bucket_slots_.push_back(static_cast<std::uint16_t>(first));
    } else {
      buckets_.push_back(half(a) | half(z) << 32);
      bucket_slots_.push_back(static_cast<std::uint16_t>(last == first ? first - 1 : first));
    }
    first = last + (start(z) + frequency(z) == end ? 1 : 0);
  }
}

std::uint32_t CdfTables::search(const Row& row, std::uint32_t position) const {
  const std::size_t bucket = row.buckets + (position >> row.shift);
  const std::uint32_t* slots = slots_.data() + row.slots;
  std::uint32_t low = bucket_slots_[bucket];
  std::uint32_t high = static_cast<std::uint32_t>(buckets_[bucket] >> 32);
  while (low < high) {
    const std::uint32_t middle = (low + high + 1) / 2;
    if (start(slots[middle]) <= position) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

void CdfTables::refuse_index(std::int32_t index, std::size_t position) const {
  throw std::invalid_argument("indexes[" + std::to_string(position) + "] must be in 0.." +
                              std::to_string(static_cast<std::int64_t>(rows()) - 1) +
                              ", the rows of the tables, got " + std::to_string(index));
}

std::vector<std::int32_t> CdfTables::cdf(std::size_t row) const {
  const std::uint32_t* slots = slots_.data() + rows_[row].slots;
  std::vector<std::int32_t> cdf;
  for (std::uint32_t slot = 0; slot <= rows_[row].escape; ++slot) {
    cdf.push_back(static_cast<std::int32_t>(start(slots[slot])));
  }
  cdf.push_back(static_cast<std::int32_t>(kTotal));
  return cdf;
}

std::size_t CdfTables::memory() const {
  return rows_.capacity() * sizeof(Row) + slots_.capacity() * sizeof(slots_[0]) +
         buckets_.capacity() * sizeof(buckets_[0]) +
         bucket_slots_.capacity() * sizeof(bucket_slots_[0]);
}

}  // namespace compressai
