// SPDX-License-Identifier: BSD-3-Clause-Clear
#include "rans_decoder.hpp"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <string>

namespace compressai {
namespace {

[[noreturn]] COMPRESSAI_NOINLINE void refuse_end() {
  throw std::invalid_argument(
      "the stream ended before the last symbol: it is truncated or damaged, or it was encoded "
      "with other indexes or tables");
}

[[noreturn]] COMPRESSAI_NOINLINE void refuse_escape() {
  throw std::invalid_argument(
      "the stream holds an escaped value no encoder writes: it is damaged, or it was encoded with "
      "other indexes or tables");
}

}  // namespace

StreamReader::StreamReader(const std::uint8_t* bytes, std::size_t size) {
  if (size < kStateBytes || size % kWordBytes != 0) {
    throw std::invalid_argument("a stream has at least 8 bytes and a multiple of 4, got " +
                                std::to_string(size));
  }
  state_ = load_word(bytes) | std::uint64_t{load_word(bytes + kWordBytes)} << 32;
  if (state_ < kStateLow || state_ >= kStateHigh) {
    throw std::invalid_argument("a stream starts with a state in [2^31, 2^63), got " +
                                std::to_string(state_));
  }
  position_ = bytes + kStateBytes;
  end_ = bytes + size;
}

void StreamReader::check_finished() const {
  if (finished()) return;
  throw std::invalid_argument(
      "the stream does not end with its last symbol: " +
      std::to_string((end_ - position_) / kWordBytes) + " words are left and the state is " +
      std::to_string(state_) + " instead of 2^31");
}

inline void StreamReader::refill() {
  if (state_ < kStateLow) {
    if (position_ == end_) refuse_end();
    state_ = state_ << 32 | load_word(position_);
    position_ += kWordBytes;
  }
}

std::uint32_t StreamReader::nibble() {
  const std::uint32_t value = static_cast<std::uint32_t>(state_) & kNibbleMax;
  state_ >>= kNibbleBits;
  refill();
  return value;
}

COMPRESSAI_NOINLINE std::int32_t StreamReader::escape(const CdfTables::Row& row) {
  const std::uint32_t digits = nibble();
  if (digits > static_cast<std::uint32_t>(kMaxDigits)) refuse_escape();
  std::uint64_t raw = 0;
  std::uint32_t digit = 1;
  for (std::uint32_t i = 0; i < digits; ++i) {
    digit = nibble();
    raw |= std::uint64_t{digit} << (kNibbleBits * i);
  }
  if (digit == 0) refuse_escape();  // the encoder counts without leading zeros
  const std::int64_t half = static_cast<std::int64_t>(raw / 2);
  const std::int64_t value = (raw % 2 != 0 ? -half - 1 : half + row.escape) + row.offset;
  if (value < std::numeric_limits<std::int32_t>::min() ||
      value > std::numeric_limits<std::int32_t>::max()) {
    refuse_escape();
  }
  return static_cast<std::int32_t>(value);
}

// Takes one slot off the state, without the refill that may have to follow.
static inline std::uint32_t pop_slot(std::uint64_t& state, const CdfTables::Row& row,
                              const CdfTables& tables) {
  const std::uint32_t position = static_cast<std::uint32_t>(state) & 0xffff;
  const std::uint64_t* row_buckets = tables.buckets() + row.buckets;
  const std::uint64_t bucket = row_buckets[position >> row.shift];
  const std::uint16_t* row_slots = tables.bucket_slots() + row.buckets;
  std::uint32_t slot, frequency, start;
  if (COMPRESSAI_LIKELY((bucket & 0xffff) != 0)) {
    // Each symbol waits for the state the last one left, so the length of this chain is the speed:
    // compare `position` with start 1, the top 16 bits, before they are taken apart; keep the sum
    // of position and start out of the wait for the product.
    const bool second = (state << 48 | 0xffffffffffff) >= bucket;
    const std::uint32_t pair = static_cast<std::uint32_t>(second ? bucket >> 32 : bucket);
    frequency = pair & 0xffff;
    start = pair >> 16;
    slot = (row_slots[position >> row.shift] + std::uint32_t{second}) & 0xffff;
  } else {
    slot = tables.search(row, position);
    const std::uint32_t packed = tables.slots()[row.slots + slot];
    frequency = CdfTables::frequency(packed);
    start = CdfTables::start(packed);
  }
  state = std::uint64_t{frequency} * (state >> kPrecision) + (position - start);
  return slot;
}

void StreamReader::decode(const std::int32_t* indexes, std::size_t count, const CdfTables& tables,
                          std::int32_t* out) {
  for (std::size_t i = 0; i < count;) {
    // A symbol that is not escaped reads at most one word, so as many symbols as there are words
    // left need no look at the end. Behind the last word, go symbol by symbol.
    const std::size_t words = static_cast<std::size_t>(end_ - position_) / kWordBytes;
    const std::size_t stop = i + std::min(count - i, words);
    const CdfTables::Row* escaped = nullptr;
    std::uint64_t state = state_;
    const std::uint8_t* position = position_;
    for (; i < stop; ++i) {
      const CdfTables::Row& row = tables.row(indexes[i], i);
      const std::uint32_t slot = pop_slot(state, row, tables);
      const std::uint64_t longer = state << 32 | load_word(position);
      const bool refill = state < kStateLow;
      state = refill ? longer : state;
      position += refill ? kWordBytes : 0;
      if (COMPRESSAI_UNLIKELY(slot == row.escape)) {
        escaped = &row;
        break;
      }
      out[i] = static_cast<std::int32_t>(slot) + row.offset;
    }
    state_ = state;
    position_ = position;
    if (escaped == nullptr && words == 0) {
      const CdfTables::Row& row = tables.row(indexes[i], i);
      const std::uint32_t slot = pop_slot(state_, row, tables);
      refill();
      if (slot == row.escape) {
        escaped = &row;
      } else {
        out[i++] = static_cast<std::int32_t>(slot) + row.offset;
      }
    }
    if (escaped != nullptr) out[i++] = escape(*escaped);
  }
}

}  // namespace compressai
