// SPDX-License-Identifier: BSD-3-Clause-Clear
// JSON (RFC 8259), as much as the manifest of a bundle takes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "fields.hpp"

namespace compressai::cai {

// A value. Whatever is asked of one of another kind is a Failure (CAI_BAD_BUNDLE).
class Json {
 public:
  static Json parse(Bytes text);

  bool is_null() const { return kind_ == Kind::kNull; }
  bool boolean() const;
  double number() const;
  std::int64_t integer(std::int64_t least, std::int64_t most) const;
  const std::string& text() const;
  const std::vector<Json>& items() const;
  const std::vector<std::pair<std::string, Json>>& members() const;
  const Json& operator[](const char* name) const;
  const Json* find(const char* name) const;

 private:
  friend class JsonReader;
  enum class Kind { kNull, kBoolean, kNumber, kText, kArray, kObject };
  void expect(Kind kind) const;

  Kind kind_ = Kind::kNull;
  double number_ = 0;
  std::string text_;
  std::vector<Json> items_;
  std::vector<std::pair<std::string, Json>> members_;
};

}  // namespace compressai::cai
