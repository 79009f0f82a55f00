// SPDX-License-Identifier: BSD-3-Clause-Clear
#include "fields.hpp"

#include <array>

#include "../rans_format.hpp"

namespace compressai::cai {
namespace {

std::array<std::uint32_t, 256> crc_table(std::uint32_t polynomial) {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) value = value >> 1 ^ (value & 1 ? polynomial : 0u);
    table[i] = value;
  }
  return table;
}

// Of the characters that Python calls not printable those that have no place in names: control
// codes, other spaces, formatting, surrogates and private use.
bool is_printable(std::uint32_t c) {
  return !(c < 0x20 || (c >= 0x7f && c <= 0xa0) || c == 0xad || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200f) || (c >= 0x2028 && c <= 0x202f) ||
           (c >= 0x205f && c <= 0x206f) || c == 0x3000 || (c >= 0xd800 && c <= 0xf8ff) ||
           c == 0xfeff || (c >= 0xfff0 && c <= 0xfffb) || (c & 0xfffe) == 0xfffe || c >= 0xe0000);
}

bool is_name(const std::string& text) {
  for (std::size_t i = 0; i < text.size();) {
    const auto first = static_cast<std::uint8_t>(text[i++]);
    const int more = first < 0x80 ? 0 : first >> 5 == 6 ? 1 : first >> 4 == 14 ? 2
                     : first >> 3 == 30 ? 3 : -1;
    if (more < 0 || text.size() - i < static_cast<std::size_t>(more)) return false;
    std::uint32_t value = more == 0 ? first : first & (0x3fu >> more);
    for (int k = 0; k < more; ++k) {
      const auto next = static_cast<std::uint8_t>(text[i++]);
      if (next >> 6 != 2) return false;
      value = value << 6 | (next & 0x3fu);
    }
    constexpr std::uint32_t least[] = {0, 0x80, 0x800, 0x10000};
    if (value < least[more] || value > 0x10ffff || !is_printable(value)) return false;
  }
  return true;
}

constexpr std::uint32_t kRound[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

std::uint32_t extend(const std::array<std::uint32_t, 256>& table, Bytes bytes,
                     std::uint32_t before) {
  std::uint32_t value = ~before;
  for (std::size_t i = 0; i < bytes.size; ++i) {
    value = value >> 8 ^ table[(value ^ bytes.data[i]) & 0xff];
  }
  return ~value;
}

std::uint32_t swapped(std::uint32_t word) {
  return word << 24 | (word & 0xff00u) << 8 | (word >> 8 & 0xff00u) | word >> 24;
}

// SHA-256 (FIPS 180-4), of words that stand for four bytes, the first one highest.
class Sha256 {
 public:
  void add(std::uint32_t word) {
    block_[length_++ % 16] = word;
    if (length_ % 16 == 0) mix();
  }

  // Adds the last bytes, less than four, and the padding; the words of the digest.
  const std::uint32_t* finish(Bytes last = {}) {
    const std::uint64_t bits = length_ * 32 + last.size * 8;
    std::uint32_t word = 0x80u << (24 - 8 * last.size);
    for (std::size_t i = 0; i < last.size; ++i) {
      word |= static_cast<std::uint32_t>(last.data[i]) << (24 - 8 * i);
    }
    add(word);
    while (length_ % 16 != 14) add(0);
    add(static_cast<std::uint32_t>(bits >> 32));
    add(static_cast<std::uint32_t>(bits));
    return state_;
  }

 private:
  static std::uint32_t turn(std::uint32_t value, int by) { return value >> by | value << (32 - by); }

  void mix() {
    std::uint32_t w[64], s[8];
    for (int i = 0; i < 16; ++i) w[i] = block_[i];
    for (int i = 16; i < 64; ++i) {
      const std::uint32_t a = turn(w[i - 15], 7) ^ turn(w[i - 15], 18) ^ w[i - 15] >> 3;
      const std::uint32_t b = turn(w[i - 2], 17) ^ turn(w[i - 2], 19) ^ w[i - 2] >> 10;
      w[i] = w[i - 16] + a + w[i - 7] + b;
    }
    for (int i = 0; i < 8; ++i) s[i] = state_[i];
    for (int i = 0; i < 64; ++i) {
      const std::uint32_t e = turn(s[4], 6) ^ turn(s[4], 11) ^ turn(s[4], 25);
      const std::uint32_t one = s[7] + e + ((s[4] & s[5]) ^ (~s[4] & s[6])) + kRound[i] + w[i];
      const std::uint32_t a = turn(s[0], 2) ^ turn(s[0], 13) ^ turn(s[0], 22);
      const std::uint32_t two = a + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
      for (int k = 7; k > 0; --k) s[k] = s[k - 1];
      s[4] += one;
      s[0] = one + two;
    }
    for (int i = 0; i < 8; ++i) state_[i] += s[i];
  }

  std::uint32_t state_[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                             0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::uint32_t block_[16] = {};
  std::uint64_t length_ = 0;
};

}  // namespace

Bytes FieldReader::take(std::uint64_t length) {
  if (length > left_) {
    throw Failure(CAI_TRUNCATED, "the file is truncated or was changed: " + std::to_string(length) +
                                     " bytes are announced, " + std::to_string(left_) +
                                     " are left; get it again");
  }
  const Bytes taken{position_, static_cast<std::size_t>(length)};
  position_ += taken.size;
  left_ -= taken.size;
  return taken;
}

std::uint32_t FieldReader::word() { return load_word(take(kWordBytes).data); }

std::uint64_t FieldReader::varint() {
  std::uint64_t value = 0;
  for (int shift = 0;;) {
    const std::uint8_t next = byte();
    value |= std::uint64_t{next & 127u} << shift;
    shift += 7;
    if (value >= kMaxVarint || shift > 42) {
      throw Failure(CAI_IMPOSSIBLE_HEADER, "a size or length is impossibly large");
    }
    if (next < 128) return value;
  }
}

std::string FieldReader::text() {
  const Bytes encoded = take(byte());
  std::string name(reinterpret_cast<const char*>(encoded.data), encoded.size);
  if (!is_name(name)) {
    throw Failure(CAI_IMPOSSIBLE_HEADER, "a name is not printable, or no UTF-8");
  }
  return name;
}

void put(Buffer& out, Bytes bytes) { out.insert(out.end(), bytes.data, bytes.data + bytes.size); }

void put_word(Buffer& out, std::uint32_t word) {
  std::uint8_t bytes[kWordBytes];
  store_word(bytes, word);
  put(out, {bytes, sizeof bytes});
}

void put_varint(Buffer& out, std::uint64_t value) {
  for (; value >= 128; value >>= 7) out.push_back(static_cast<std::uint8_t>(128 | (value & 127)));
  out.push_back(static_cast<std::uint8_t>(value));
}

void put_text(Buffer& out, const std::string& value) {
  if (value.size() > 255 || !is_name(value)) {
    throw Failure(CAI_INVALID_ARGUMENT, "a name must be printable UTF-8 of at most 255 bytes");
  }
  out.push_back(static_cast<std::uint8_t>(value.size()));
  put(out, {reinterpret_cast<const std::uint8_t*>(value.data()), value.size()});
}

std::uint32_t crc32(Bytes bytes) {
  static const std::array<std::uint32_t, 256> table = crc_table(0xedb88320u);
  return extend(table, bytes, 0);
}

std::uint32_t crc32c(Bytes bytes, std::uint32_t before) {
  static const std::array<std::uint32_t, 256> table = crc_table(0x82f63b78u);
  return extend(table, bytes, before);
}

std::string sha256(Bytes bytes) {
  Sha256 digest;
  const std::size_t whole = bytes.size / 4 * 4;
  for (std::size_t i = 0; i < whole; i += 4) digest.add(swapped(load_word(bytes.data + i)));
  const std::uint32_t* words = digest.finish({bytes.data + whole, bytes.size - whole});
  constexpr char digits[] = "0123456789abcdef";
  std::string text;
  for (int i = 0; i < 8; ++i) {
    for (int shift = 28; shift >= 0; shift -= 4) text.push_back(digits[words[i] >> shift & 15]);
  }
  return text;
}

void hash_latent(const float* values, std::size_t count, std::uint8_t hash[8]) {
  Sha256 digest;
  for (std::size_t i = 0; i < count; ++i) {
    std::uint32_t bits;
    std::memcpy(&bits, &values[i], sizeof bits);
    digest.add(bits == 0x80000000u ? 0 : swapped(bits));
  }
  const std::uint32_t* words = digest.finish();
  for (int i = 0; i < 8; ++i) hash[i] = static_cast<std::uint8_t>(words[i / 4] >> (24 - i % 4 * 8));
}

}  // namespace compressai::cai
