// SPDX-License-Identifier: BSD-3-Clause-Clear
// The encoder: from symbols (or queued operations) to the words of a stream. The state machine
// works from the last operation to the first, so that the decoder can go forward.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "cdf_tables.hpp"
#include "rans_format.hpp"

namespace compressai {

// The words of a stream in the order they are emitted, which is from the end of the stream.
class WordBuffer {
 public:
  // Room for `count` words more; the position to write them to.
  std::uint32_t* reserve(std::size_t count);
  void commit(const std::uint32_t* end) { size_ = static_cast<std::size_t>(end - words_.get()); }
  std::size_t size() const { return size_; }
  const std::uint32_t* data() const { return words_.get(); }

 private:
  std::unique_ptr<std::uint32_t[]> words_;
  std::size_t size_ = 0;
  std::size_t capacity_ = 0;
};

// A finished message.
class EncodedStream {
 public:
  std::size_t bytes() const { return kStateBytes * lanes_ + kWordBytes * words_.size(); }
  void write(std::uint8_t* destination) const;

 private:
  friend struct Coding;
  WordBuffer words_;
  std::uint64_t states_[kLanes] = {kStateLow, kStateLow, kStateLow, kStateLow};
  std::size_t lanes_ = 1;
};

// Which layout a message gets.
enum class Layout {
  kPlain,        // one state, as CompressAI's
  kBySize,       // interleaved if it takes kInterleavedBytes or more in the plain layout
  kInterleaved,  // kLanes states, however short it is
};

// Encodes `count` symbols with the rows given by `indexes`. Throws std::invalid_argument for an
// index outside the tables.
EncodedStream encode(const std::int32_t* symbols, const std::int32_t* indexes, std::size_t count,
                     const CdfTables& tables, Layout layout = Layout::kPlain);

// Operations of several calls, to be encoded as one message.
class OperationQueue {
 public:
  // All or nothing: after an exception the queue is as before.
  void append(const std::int32_t* symbols, const std::int32_t* indexes, std::size_t count,
              const CdfTables& tables);
  // Encodes what was appended and empties the queue.
  EncodedStream flush(Layout layout = Layout::kPlain);
  std::size_t size() const { return operations_.size(); }

 private:
  // A slot packed as in CdfTables, or a nibble. A slot ends at 65536 at the latest, so start
  // 65535 with a frequency above 1 is free to mean a nibble.
  std::vector<std::uint32_t> operations_;
  std::size_t symbols_ = 0;
};

}  // namespace compressai
