// SPDX-License-Identifier: BSD-3-Clause-Clear
#include "zip.hpp"

#include <algorithm>

#include "../rans_format.hpp"

namespace compressai::cai {
namespace {

constexpr std::size_t kEndBytes = 22, kCentralBytes = 46, kLocalBytes = 30;
constexpr std::uint32_t kEnd = 0x06054b50, kCentral = 0x02014b50, kLocal = 0x04034b50;

[[noreturn]] void bad(const char* why) {
  throw Failure(CAI_BAD_BUNDLE, std::string("this is no bundle, or a damaged one: ") + why);
}

std::size_t half(const std::uint8_t* at) { return at[0] | std::size_t{at[1]} << 8; }

// A part of the archive that begins with a mark.
const std::uint8_t* part(Bytes archive, std::size_t start, std::size_t size, std::uint32_t mark) {
  if (start > archive.size || size > archive.size - start) bad("it is cut");
  if (load_word(archive.data + start) != mark) bad("a part of it is not where it should be");
  return archive.data + start;
}

std::size_t find_end(Bytes archive) {
  constexpr std::size_t longest_comment = 0xffff;
  if (archive.size < kEndBytes) bad("it is too short");
  std::size_t at = archive.size - kEndBytes;
  const std::size_t first = at - std::min(at, longest_comment);
  for (;; --at) {
    if (load_word(archive.data + at) == kEnd) return at;
    if (at == first) bad("it has no end");
  }
}

}  // namespace

std::map<std::string, Bytes> read_zip(Bytes archive) {
  const std::uint8_t* end = archive.data + find_end(archive);
  std::map<std::string, Bytes> entries;
  std::size_t at = load_word(end + 16);
  for (std::size_t left = half(end + 10); left > 0; --left) {
    const std::uint8_t* central = part(archive, at, kCentralBytes, kCentral);
    const std::size_t name = half(central + 28);
    const std::size_t size = load_word(central + 24), start = load_word(central + 42);
    part(archive, at, kCentralBytes + name, kCentral);
    if (half(central + 10) != 0 || load_word(central + 20) != size) bad("it is compressed");
    const std::uint8_t* local = part(archive, start, kLocalBytes, kLocal);
    const std::size_t content = start + kLocalBytes + half(local + 26) + half(local + 28);
    if (content > archive.size || size > archive.size - content) bad("it is cut");
    const Bytes bytes{archive.data + content, size};
    if (crc32(bytes) != load_word(central + 16)) bad("a checksum does not match");
    entries[std::string(reinterpret_cast<const char*>(central + kCentralBytes), name)] = bytes;
    at += kCentralBytes + name + half(central + 30) + half(central + 32);
  }
  return entries;
}

}  // namespace compressai::cai
