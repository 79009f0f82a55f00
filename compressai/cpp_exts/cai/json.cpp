// SPDX-License-Identifier: BSD-3-Clause-Clear
#include "json.hpp"

#include <cmath>
#include <cstdlib>
#include <cstring>

namespace compressai::cai {
namespace {

constexpr int kMostDepth = 16;

[[noreturn]] void bad(const std::string& what) {
  throw Failure(CAI_BAD_BUNDLE, "the bundle is damaged: its manifest " + what);
}

}  // namespace

class JsonReader {
 public:
  explicit JsonReader(Bytes text)
      : at_(reinterpret_cast<const char*>(text.data)), end_(at_ + text.size) {}

  Json whole() {
    Json found = value(0);
    skip();
    if (at_ != end_) bad("goes on after its end");
    return found;
  }

 private:
  void skip() {
    while (at_ != end_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\r' || *at_ == '\t')) ++at_;
  }
  char peek() {
    skip();
    if (at_ == end_) bad("ends too early");
    return *at_;
  }
  bool take(char c) {
    if (peek() != c) return false;
    ++at_;
    return true;
  }
  void need(char c) {
    if (!take(c)) bad(std::string("lacks ") + c);
  }
  bool word(const char* name) {
    const std::size_t length = std::strlen(name);
    if (static_cast<std::size_t>(end_ - at_) < length || std::memcmp(at_, name, length) != 0) {
      return false;
    }
    at_ += length;
    return true;
  }

  Json value(int depth) {
    if (depth > kMostDepth) bad("is too deep");
    Json found;
    const char c = peek();
    if (c == '{') {
      found.kind_ = Json::Kind::kObject;
      ++at_;
      if (take('}')) return found;
      do {
        peek();
        std::string name = text();
        need(':');
        found.members_.emplace_back(std::move(name), value(depth + 1));
      } while (take(','));
      need('}');
    } else if (c == '[') {
      found.kind_ = Json::Kind::kArray;
      ++at_;
      if (take(']')) return found;
      do found.items_.push_back(value(depth + 1));
      while (take(','));
      need(']');
    } else if (c == '"') {
      found.kind_ = Json::Kind::kText;
      found.text_ = text();
    } else if (word("true") || word("false")) {
      found.kind_ = Json::Kind::kBoolean;
      found.number_ = at_[-2] == 'u';
    } else if (!word("null")) {
      found.kind_ = Json::Kind::kNumber;
      found.number_ = number();
    }
    return found;
  }

  double number() {
    std::string digits;
    while (at_ != end_ && std::strchr("+-.0123456789eE", *at_) != nullptr) digits.push_back(*at_++);
    char* rest = nullptr;
    const double found = std::strtod(digits.c_str(), &rest);
    if (digits.empty() || *rest != 0 || !std::isfinite(found)) bad("has something unknown");
    return found;
  }

  std::string text() {
    need('"');
    std::string found;
    while (at_ != end_ && *at_ != '"') {
      if (*at_ != '\\') {
        found.push_back(*at_++);
      } else if (++at_ != end_) {
        escape(found);
      }
    }
    if (at_ == end_) bad("ends too early");
    ++at_;
    return found;
  }

  void escape(std::string& out) {
    constexpr char codes[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
    const char c = *at_++;
    if (c != 'u') {
      const char* place = c == 0 ? nullptr : std::strchr(codes, c);
      if (place == nullptr) bad("has an unknown escape");
      out.push_back(meanings[place - codes]);
      return;
    }
    if (end_ - at_ < 4) bad("ends too early");
    const unsigned long code = std::strtoul(std::string(at_, 4).c_str(), nullptr, 16);
    at_ += 4;
    // Texts are shown or compared, nothing else: halves of pairs stay apart.
    if (code < 0x80) {
      out.push_back(static_cast<char>(code));
    } else if (code < 0x800) {
      out.push_back(static_cast<char>(0xc0 | code >> 6));
      out.push_back(static_cast<char>(0x80 | (code & 63)));
    } else {
      out.push_back(static_cast<char>(0xe0 | code >> 12));
      out.push_back(static_cast<char>(0x80 | (code >> 6 & 63)));
      out.push_back(static_cast<char>(0x80 | (code & 63)));
    }
  }

  const char* at_;
  const char* end_;
};

Json Json::parse(Bytes text) { return JsonReader(text).whole(); }

void Json::expect(Kind kind) const {
  if (kind_ != kind) bad("has a value of another kind than expected");
}

bool Json::boolean() const {
  expect(Kind::kBoolean);
  return number_ != 0;
}

double Json::number() const {
  expect(Kind::kNumber);
  return number_;
}

std::int64_t Json::integer(std::int64_t least, std::int64_t most) const {
  const double found = number();
  if (found != std::floor(found) || found < static_cast<double>(least) ||
      found > static_cast<double>(most)) {
    bad("has a number out of range: " + std::to_string(found));
  }
  return static_cast<std::int64_t>(found);
}

const std::string& Json::text() const {
  expect(Kind::kText);
  return text_;
}

const std::vector<Json>& Json::items() const {
  expect(Kind::kArray);
  return items_;
}

const std::vector<std::pair<std::string, Json>>& Json::members() const {
  expect(Kind::kObject);
  return members_;
}

const Json* Json::find(const char* name) const {
  for (const auto& [key, value] : members()) {
    if (key == name) return &value;
  }
  return nullptr;
}

const Json& Json::operator[](const char* name) const {
  const Json* found = find(name);
  if (found == nullptr) bad(std::string("has no ") + name);
  return *found;
}

}  // namespace compressai::cai
