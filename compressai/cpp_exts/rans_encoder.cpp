// SPDX-License-Identifier: BSD-3-Clause-Clear
#include "rans_encoder.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>

#include "reciprocals.hpp"

namespace compressai {
namespace {

// Symbols encoded between two looks at the room in the word buffer.
constexpr std::size_t kBlock = 1024;
// An operation emits at most one word. After a nibble has emitted one, at least six more nibbles
// fit; so the slot and the ten nibbles of an escaped symbol emit at most three.
constexpr std::size_t kWordsPerSymbol = 3;

constexpr std::uint32_t kNibbleMark = 0xffff;

std::uint32_t nibble_operation(std::uint32_t nibble) { return kNibbleMark | (nibble + 1) << 16; }
bool is_nibble(std::uint32_t operation) {
  return (operation & 0xffff) == kNibbleMark && operation >> 16 != 0;
}

// Symbols outside the row as an unsigned number: even above, odd below.
std::uint64_t escape_value(std::int64_t value, std::uint32_t escape) {
  return value < 0 ? static_cast<std::uint64_t>(-2 * value - 1)
                   : static_cast<std::uint64_t>(2 * (value - escape));
}

std::uint32_t count_digits(std::uint64_t raw) {
  std::uint32_t digits = 0;
  for (; raw != 0; raw >>= kNibbleBits) ++digits;
  return digits;
}

// The state and the place its words go to.
struct Machine {
  std::uint64_t state;
  std::uint32_t* out;
  const std::uint64_t* reciprocals;

  void slot(std::uint32_t packed) {
    const std::uint32_t low = packed >> 16;  // frequency - 1
    const std::uint64_t limit = (std::uint64_t{low} + 1) << 47;
    *out = static_cast<std::uint32_t>(state);
    const bool emit = state >= limit;
    out += emit;
    const std::uint64_t shorter = state >> 32;
    state = emit ? shorter : state;
    const std::uint64_t quotient =
        multiply_high(state, reciprocals[low]) >> highest_bit(low | 1);
    // quotient * 2^16 + (state - quotient * frequency) + start. For frequency 1 the quotient is
    // one too small, see reciprocals.hpp.
    const std::uint32_t repair = low == 0 ? kTotal - 1 : 0;
    state += CdfTables::start(packed) + repair + quotient * (kTotal - 1 - low);
  }

  void nibble(std::uint32_t value) {
    if (state >= kNibbleEmit) {
      *out++ = static_cast<std::uint32_t>(state);
      state >>= 32;
    }
    state = state << kNibbleBits | value;
  }

  COMPRESSAI_NOINLINE void escape(std::int64_t value, std::uint32_t slot_number) {
    const std::uint64_t raw = escape_value(value, slot_number);
    const std::uint32_t digits = count_digits(raw);
    for (std::uint32_t digit = digits; digit-- > 0;) {
      nibble(static_cast<std::uint32_t>(raw >> (kNibbleBits * digit)) & kNibbleMax);
    }
    nibble(digits);
  }
};

}  // namespace

std::uint32_t* WordBuffer::reserve(std::size_t count) {
  if (capacity_ - size_ < count) {
    const std::size_t capacity = std::max(2 * capacity_, size_ + count);
    std::unique_ptr<std::uint32_t[]> words(new std::uint32_t[capacity]);
    if (size_ != 0) std::memcpy(words.get(), words_.get(), size_ * sizeof(std::uint32_t));
    words_ = std::move(words);
    capacity_ = capacity;
  }
  return words_.get() + size_;
}

void EncodedStream::write(std::uint8_t* destination) const {
  store_word(destination, static_cast<std::uint32_t>(state_));
  store_word(destination + kWordBytes, static_cast<std::uint32_t>(state_ >> 32));
  destination += kStateBytes;
  const std::uint32_t* words = words_.data();
  const std::size_t count = words_.size();
  for (std::size_t i = 0; i < count; ++i) {
    store_word(destination + kWordBytes * i, words[count - 1 - i]);
  }
}

EncodedStream encode(const std::int32_t* symbols, const std::int32_t* indexes, std::size_t count,
                     const CdfTables& tables) {
  EncodedStream stream;
  const std::uint32_t* slots = tables.slots();
  Machine machine{kStateLow, nullptr, reciprocal_table()};
  for (std::size_t end = count; end > 0;) {
    const std::size_t begin = end > kBlock ? end - kBlock : 0;
    machine.out = stream.words_.reserve(kWordsPerSymbol * (end - begin) + 1);
    for (std::size_t i = end; i-- > begin;) {
      const CdfTables::Row& row = tables.row(indexes[i], i);
      const std::int64_t value = std::int64_t{symbols[i]} - row.offset;
      std::uint32_t slot = static_cast<std::uint32_t>(value);
      if (COMPRESSAI_UNLIKELY(static_cast<std::uint64_t>(value) >= row.escape)) {
        slot = row.escape;
        machine.escape(value, slot);
      }
      machine.slot(slots[row.slots + slot]);
    }
    stream.words_.commit(machine.out);
    end = begin;
  }
  stream.state_ = machine.state;
  return stream;
}

void OperationQueue::append(const std::int32_t* symbols, const std::int32_t* indexes,
                            std::size_t count, const CdfTables& tables) {
  const std::size_t before = operations_.size();
  try {
    for (std::size_t i = 0; i < count; ++i) {
      const CdfTables::Row& row = tables.row(indexes[i], i);
      const std::int64_t value = std::int64_t{symbols[i]} - row.offset;
      if (COMPRESSAI_LIKELY(static_cast<std::uint64_t>(value) < row.escape)) {
        operations_.push_back(tables.slots()[row.slots + static_cast<std::uint32_t>(value)]);
        continue;
      }
      operations_.push_back(tables.slots()[row.slots + row.escape]);
      std::uint64_t raw = escape_value(value, row.escape);
      operations_.push_back(nibble_operation(count_digits(raw)));
      for (; raw != 0; raw >>= kNibbleBits) {
        operations_.push_back(nibble_operation(static_cast<std::uint32_t>(raw) & kNibbleMax));
      }
    }
  } catch (...) {
    operations_.resize(before);
    throw;
  }
}

EncodedStream OperationQueue::flush() {
  EncodedStream stream;
  Machine machine{kStateLow, nullptr, reciprocal_table()};
  for (std::size_t end = operations_.size(); end > 0;) {
    const std::size_t begin = end > kBlock ? end - kBlock : 0;
    machine.out = stream.words_.reserve(end - begin + 1);
    for (std::size_t i = end; i-- > begin;) {
      const std::uint32_t operation = operations_[i];
      if (COMPRESSAI_UNLIKELY(is_nibble(operation))) {
        machine.nibble((operation >> 16) - 1);
      } else {
        machine.slot(operation);
      }
    }
    stream.words_.commit(machine.out);
    end = begin;
  }
  stream.state_ = machine.state;
  operations_ = {};
  return stream;
}

}  // namespace compressai
