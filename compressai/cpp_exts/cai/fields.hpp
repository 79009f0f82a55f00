// SPDX-License-Identifier: BSD-3-Clause-Clear
// The fields that headers are made of, checksums, and the error that ends the reading of a file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "cai.h"

namespace compressai::cai {

// What a caller is told, with its kind.
class Failure : public std::runtime_error {
 public:
  Failure(cai_status status, const std::string& message)
      : std::runtime_error(message), status_(status) {}
  cai_status status() const { return status_; }

 private:
  cai_status status_;
};

// Larger numbers can only come from damage.
constexpr std::uint64_t kMaxVarint = std::uint64_t{1} << 40;

struct Bytes {
  const std::uint8_t* data = nullptr;
  std::size_t size = 0;
};

// Takes fields off a buffer, and never reads beyond it. All throw Failure: kTruncated where the
// buffer ends too early, kImpossibleHeader where no writer gives such a value.
class FieldReader {
 public:
  explicit FieldReader(Bytes buffer) : position_(buffer.data), left_(buffer.size) {}

  std::size_t left() const { return left_; }
  Bytes take(std::uint64_t length);
  std::uint8_t byte() { return *take(1).data; }
  std::uint32_t word();
  std::uint64_t varint();
  std::string text();

 private:
  const std::uint8_t* position_;
  std::size_t left_;
};

// The other way.
using Buffer = std::vector<std::uint8_t>;
void put(Buffer& out, Bytes bytes);
void put_word(Buffer& out, std::uint32_t word);
void put_varint(Buffer& out, std::uint64_t value);
void put_text(Buffer& out, const std::string& value);  // Failure for an invalid name

// The whole SHA-256 of bytes, as text.
std::string sha256(Bytes bytes);

// The CRC-32 of zip files.
std::uint32_t crc32(Bytes bytes);

// CRC-32C, of what `before` is the checksum of, followed by these bytes.
std::uint32_t crc32c(Bytes bytes, std::uint32_t before = 0);

// The first 8 bytes of the SHA-256 of float32 values, with 0 for -0, little-endian.
void hash_latent(const float* values, std::size_t count, std::uint8_t hash[8]);

}  // namespace compressai::cai
