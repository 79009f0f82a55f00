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
  const auto load_state = [bytes](std::size_t lane) {
    const std::uint8_t* low = bytes + kStateBytes * lane;
    return load_word(low) | std::uint64_t{load_word(low + kWordBytes)} << 32;
  };
  states_[0] = load_state(0);
  if ((states_[0] & kInterleavedMark) != 0) {
    lanes_ = kLanes;
    states_[0] ^= kInterleavedMark;
    if (size < kLanes * kStateBytes) {
      throw std::invalid_argument("an interleaved stream has at least 32 bytes, got " +
                                  std::to_string(size));
    }
  }
  for (std::size_t lane = 0; lane < lanes_; ++lane) {
    states_[lane] = lane == 0 ? states_[0] : load_state(lane);
    if (states_[lane] < kStateLow || states_[lane] >= kStateHigh) {
      throw std::invalid_argument("a stream starts with states in [2^31, 2^63), got " +
                                  std::to_string(states_[lane]));
    }
  }
  position_ = bytes + kStateBytes * lanes_;
  end_ = bytes + size;
}

bool StreamReader::finished() const {
  return position_ == end_ && std::all_of(states_, states_ + lanes_, [](std::uint64_t state) {
           return state == kStateLow;
         });
}

void StreamReader::check_finished() const {
  if (finished()) return;
  throw std::invalid_argument(
      "the stream does not end with its last symbol: " +
      std::to_string((end_ - position_) / kWordBytes) + " words are left and the state is " +
      std::to_string(*std::max_element(states_, states_ + lanes_)) + " instead of 2^31");
}

inline void StreamReader::refill(std::uint64_t& state) {
  if (state < kStateLow) {
    if (position_ == end_) refuse_end();
    state = state << 32 | load_word(position_);
    position_ += kWordBytes;
  }
}

std::uint32_t StreamReader::nibble(std::uint64_t& state) {
  const std::uint32_t value = static_cast<std::uint32_t>(state) & kNibbleMax;
  state >>= kNibbleBits;
  refill(state);
  return value;
}

COMPRESSAI_NOINLINE std::int32_t StreamReader::escape(const CdfTables::Row& row,
                                                      std::uint64_t& state) {
  const std::uint32_t digits = nibble(state);
  if (digits > static_cast<std::uint32_t>(kMaxDigits)) refuse_escape();
  std::uint64_t raw = 0;
  std::uint32_t digit = 1;
  for (std::uint32_t i = 0; i < digits; ++i) {
    digit = nibble(state);
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

// One symbol, with a look at the end for each word.
inline std::int32_t StreamReader::symbol(std::int32_t index, std::size_t place,
                                         const CdfTables& tables, std::uint64_t& state) {
  const CdfTables::Row& row = tables.row(index, place);
  const std::uint32_t slot = pop_slot(state, row, tables);
  refill(state);
  return slot == row.escape ? escape(row, state) : static_cast<std::int32_t>(slot) + row.offset;
}

void StreamReader::decode(const std::int32_t* indexes, std::size_t count, const CdfTables& tables,
                          std::int32_t* out) {
  if (lanes_ == 1) {
    decode_plain(indexes, count, tables, out);
  } else {
    decode_interleaved(indexes, count, tables, out);
  }
}

void StreamReader::decode_plain(const std::int32_t* indexes, std::size_t count,
                                const CdfTables& tables, std::int32_t* out) {
  for (std::size_t i = 0; i < count;) {
    // A symbol that is not escaped reads at most one word, so as many symbols as there are words
    // left need no look at the end. Behind the last word, go symbol by symbol.
    const std::size_t words = static_cast<std::size_t>(end_ - position_) / kWordBytes;
    const std::size_t stop = i + std::min(count - i, words);
    const CdfTables::Row* escaped = nullptr;
    std::uint64_t state = states_[0];
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
    states_[0] = state;
    position_ = position;
    if (escaped != nullptr) {
      out[i++] = escape(*escaped, states_[0]);
    } else if (words == 0) {
      out[i] = symbol(indexes[i], i, tables, states_[0]);
      ++i;
    }
  }
}

void StreamReader::decode_interleaved(const std::int32_t* indexes, std::size_t count,
                                      const CdfTables& tables, std::int32_t* out) {
  const CdfTables::Row* const rows = tables.first_row();
  const std::uint64_t* const buckets = tables.buckets();
  const std::uint16_t* const bucket_slots = tables.bucket_slots();
  // Without a look at the indexes, if all are within the tables.
  const std::size_t most = tables.has_rows(indexes, count) ? count : 0;
  for (std::size_t i = 0; i < count; ++i) {
    // As above, by rounds of one symbol from each state.
    const std::size_t words = static_cast<std::size_t>(end_ - position_) / kWordBytes;
    const std::size_t rounds = std::min(std::max(most, i) - i, words) / kLanes;
    // In registers, and by name: a loop over them would not be unrolled by every compiler. No
    // function is called in between, which would need the registers.
    std::uint64_t* const turn[] = {states_ + lane_, states_ + (lane_ + 1) % kLanes,
                                   states_ + (lane_ + 2) % kLanes, states_ + (lane_ + 3) % kLanes};
    std::uint64_t a = *turn[0], b = *turn[1], c = *turn[2], d = *turn[3];
    const std::uint8_t* position = position_;
    const std::int32_t* index = indexes + i;
    const std::int32_t* const stop = index + kLanes * rounds;
    std::int32_t* symbols = out + i;
    // Takes a symbol, and gives false where that takes longer: in crowded buckets, and for escapes.
    const auto take = [&](std::uint64_t& state, std::size_t lane) {
      const CdfTables::Row& row = rows[static_cast<std::uint32_t>(index[lane])];
      const std::uint32_t place = static_cast<std::uint32_t>(state) & 0xffff;
      const std::size_t at = row.buckets + (place >> row.shift);
      const std::uint64_t bucket = buckets[at];
      const bool second = (state << 48 | 0xffffffffffff) >= bucket;
      const std::uint32_t slot = (bucket_slots[at] + std::uint32_t{second}) & 0xffff;
      const std::uint32_t pair = static_cast<std::uint32_t>(second ? bucket >> 32 : bucket);
      if (COMPRESSAI_UNLIKELY(((bucket & 0xffff) == 0) | (slot == row.escape))) return false;
      state = std::uint64_t{pair & 0xffff} * (state >> kPrecision) + (place - (pair >> 16));
      // All ones or zero: a condition could become a jump, which would often be mispredicted.
      const std::uint64_t refill = std::uint64_t{0} - std::uint64_t{state < kStateLow};
      state ^= (state ^ (state << 32 | load_word(position))) & refill;
      position += kWordBytes & refill;
      symbols[lane] = static_cast<std::int32_t>(slot) + row.offset;
      return true;
    };
    std::size_t taken = 0;
    for (; index != stop; index += kLanes, symbols += kLanes) {
      if (COMPRESSAI_UNLIKELY(!take(a, 0))) { taken = 0; break; }
      if (COMPRESSAI_UNLIKELY(!take(b, 1))) { taken = 1; break; }
      if (COMPRESSAI_UNLIKELY(!take(c, 2))) { taken = 2; break; }
      if (COMPRESSAI_UNLIKELY(!take(d, 3))) { taken = 3; break; }
    }
    *turn[0] = a, *turn[1] = b, *turn[2] = c, *turn[3] = d;
    position_ = position;
    i = static_cast<std::size_t>(index - indexes) + taken;
    if (i == count) return;
    lane_ = (lane_ + taken) % kLanes;
    // What takes longer, the last words and symbols, or an index that does not exist.
    out[i] = symbol(indexes[i], i, tables, states_[lane_]);
    lane_ = (lane_ + 1) % kLanes;
  }
}

}  // namespace compressai
