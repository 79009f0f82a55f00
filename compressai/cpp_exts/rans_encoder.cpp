// SPDX-License-Identifier: BSD-3-Clause-Clear
#include "rans_encoder.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>
#include <type_traits>

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
  for (std::size_t lane = 0; lane < lanes_; ++lane) {
    const std::uint64_t mark = lane == 0 && lanes_ > 1 ? kInterleavedMark : 0;
    store_word(destination, static_cast<std::uint32_t>(states_[lane]));
    store_word(destination + kWordBytes, static_cast<std::uint32_t>((states_[lane] | mark) >> 32));
    destination += kStateBytes;
  }
  const std::uint32_t* words = words_.data();
  const std::size_t count = words_.size();
  for (std::size_t i = 0; i < count; ++i) {
    store_word(destination + kWordBytes * i, words[count - 1 - i]);
  }
}

// Writes messages of N states.
struct Coding {
  template <std::size_t N>
  static EncodedStream encode(const std::int32_t* symbols, const std::int32_t* indexes,
                              std::size_t count, const CdfTables& tables) {
    EncodedStream stream;
    stream.lanes_ = N;
    const std::uint32_t* slots = tables.slots();
    Machine machine{kStateLow, nullptr, reciprocal_table()};
    for (std::size_t end = count; end > 0;) {
      const std::size_t begin = end > kBlock ? end - kBlock : 0;
      machine.out = stream.words_.reserve(kWordsPerSymbol * (end - begin) + 1);
      for (std::size_t i = end; i-- > begin;) {
        if constexpr (N > 1) machine.state = stream.states_[i % N];
        const CdfTables::Row& row = tables.row(indexes[i], i);
        const std::int64_t value = std::int64_t{symbols[i]} - row.offset;
        std::uint32_t slot = static_cast<std::uint32_t>(value);
        if (COMPRESSAI_UNLIKELY(static_cast<std::uint64_t>(value) >= row.escape)) {
          slot = row.escape;
          machine.escape(value, slot);
        }
        machine.slot(slots[row.slots + slot]);
        if constexpr (N > 1) stream.states_[i % N] = machine.state;
      }
      stream.words_.commit(machine.out);
      end = begin;
    }
    if constexpr (N == 1) stream.states_[0] = machine.state;
    return stream;
  }

  // `symbols`: how many of the operations are slots. The nibbles of a symbol follow its slot.
  template <std::size_t N>
  static EncodedStream flush(const std::vector<std::uint32_t>& operations, std::size_t symbols) {
    EncodedStream stream;
    stream.lanes_ = N;
    Machine machine{kStateLow, nullptr, reciprocal_table()};
    if (symbols != 0) machine.state = stream.states_[(symbols - 1) % N];
    for (std::size_t end = operations.size(); end > 0;) {
      const std::size_t begin = end > kBlock ? end - kBlock : 0;
      machine.out = stream.words_.reserve(end - begin + 1);
      for (std::size_t i = end; i-- > begin;) {
        const std::uint32_t operation = operations[i];
        if (COMPRESSAI_UNLIKELY(is_nibble(operation))) {
          machine.nibble((operation >> 16) - 1);
          continue;
        }
        machine.slot(operation);
        if constexpr (N > 1) {
          --symbols;
          stream.states_[symbols % N] = machine.state;
          machine.state = stream.states_[(symbols + N - 1) % N];
        }
      }
      stream.words_.commit(machine.out);
      end = begin;
    }
    if constexpr (N == 1) stream.states_[0] = machine.state;
    return stream;
  }

  // Calls write(N) with N as a type, as the layout wants.
  template <typename Write>
  static EncodedStream choose(Layout layout, const Write& write) {
    using One = std::integral_constant<std::size_t, 1>;
    using Several = std::integral_constant<std::size_t, kLanes>;
    if (layout == Layout::kInterleaved) return write(Several());
    EncodedStream plain = write(One());
    if (layout == Layout::kPlain || plain.bytes() < kInterleavedBytes) return plain;
    return write(Several());
  }
};

EncodedStream encode(const std::int32_t* symbols, const std::int32_t* indexes, std::size_t count,
                     const CdfTables& tables, Layout layout) {
  return Coding::choose(layout, [&](auto lanes) {
    return Coding::encode<lanes()>(symbols, indexes, count, tables);
  });
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
  symbols_ += count;
}

EncodedStream OperationQueue::flush(Layout layout) {
  EncodedStream stream = Coding::choose(
      layout, [&](auto lanes) { return Coding::flush<lanes()>(operations_, symbols_); });
  operations_ = {};
  symbols_ = 0;
  return stream;
}

}  // namespace compressai
