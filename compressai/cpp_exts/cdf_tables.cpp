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

// Keeps positions in 32 bits: a row has at most 64 buckets for each of its slots.
constexpr std::size_t kMaxSlots = std::size_t{1} << 26;

int bucket_bits(std::size_t slots) {
  int bits = kMinBucketBits;
  while (bits < kMaxBucketBits && (std::size_t{1} << bits) < slots) ++bits;
  return bits;
}

[[noreturn]] void refuse(std::size_t row, const std::string& what) {
  throw std::invalid_argument("cdfs row " + std::to_string(row) + " " + what);
}

// Reads every entry once: what was checked is what is used, even if another thread writes to the
// caller's array at the same time.
void append_slots(std::size_t row, const CdfRow& cdf, std::int32_t size,
                  std::vector<std::uint32_t>& slots) {
  if (size < 2) {
    throw std::invalid_argument("cdfs_sizes[" + std::to_string(row) +
                                "] must be at least 2, got " + std::to_string(size));
  }
  if (static_cast<std::size_t>(size) > cdf.size) {
    throw std::invalid_argument("cdfs_sizes[" + std::to_string(row) +
                                "] must not exceed the row's length " +
                                std::to_string(cdf.size) + ", got " + std::to_string(size));
  }
  std::int32_t last = cdf.data[0];
  if (last != 0) refuse(row, "must start with 0, got " + std::to_string(last));
  for (std::int32_t i = 1; i < size; ++i) {
    const std::int32_t entry = cdf.data[i];
    if (entry <= last) {
      refuse(row, "must increase strictly, got " + std::to_string(last) + ", " +
                      std::to_string(entry) + " at positions " + std::to_string(i - 1) + ", " +
                      std::to_string(i));
    }
    if (entry > static_cast<std::int32_t>(kTotal)) {
      refuse(row, "must not exceed 65536, got " + std::to_string(entry) + " at position " +
                      std::to_string(i));
    }
    slots.push_back(CdfTables::pack(static_cast<std::uint32_t>(last),
                                    static_cast<std::uint32_t>(entry - last)));
    last = entry;
  }
  if (last != static_cast<std::int32_t>(kTotal)) {
    refuse(row, "must end with 65536 at position cdfs_sizes - 1 = " + std::to_string(size - 1) +
                    ", got " + std::to_string(last));
  }
}

}  // namespace

CdfTables::CdfTables(const std::vector<CdfRow>& rows, const std::int32_t* sizes,
                     const std::int32_t* offsets) {
  std::size_t buckets = 0;
  rows_.reserve(rows.size());
  for (std::size_t r = 0; r < rows.size(); ++r) {
    Row row{};
    row.slots = static_cast<std::uint32_t>(slots_.size());
    row.offset = offsets[r];
    append_slots(r, rows[r], sizes[r], slots_);
    const std::size_t slots = slots_.size() - row.slots;
    row.escape = static_cast<std::uint16_t>(slots - 1);
    if (std::int64_t{row.offset} + row.escape - 1 > std::numeric_limits<std::int32_t>::max()) {
      throw std::invalid_argument("offsets[" + std::to_string(r) + "] must leave the row's last " +
                                  "value within int32, got " + std::to_string(row.offset));
    }
    if (slots_.size() >= kMaxSlots) {
      throw std::invalid_argument("cdfs must have less than 2^26 slots together, got them by row " +
                                  std::to_string(r));
    }
    const int bits = bucket_bits(slots);
    row.shift = static_cast<std::uint16_t>(kPrecision - bits);
    buckets += std::size_t{1} << bits;
    rows_.push_back(row);
  }
  slots_.shrink_to_fit();
  buckets_.reserve(buckets);
  bucket_slots_.reserve(buckets);
  for (Row& row : rows_) build_buckets(row);
}

void CdfTables::build_buckets(Row& row) {
  const std::uint32_t* slots = slots_.data() + row.slots;
  const std::size_t count = kTotal >> row.shift;
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
