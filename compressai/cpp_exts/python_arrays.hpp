// SPDX-License-Identifier: BSD-3-Clause-Clear
// Python arguments as plain memory, and back: integer sequences, arrays, tensors, byte strings.
// Shared by the bindings; the coder itself does not see Python.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace compressai {

namespace nb = nanobind;

// The memory of an array argument, whichever protocol it came by. Like the other classes here it
// stays where it was made: a Py_buffer may point into itself.
class ArrayView {
 public:
  enum class Kind { kInteger, kUnsigned, kFloat, kOther };
  static constexpr std::size_t kMaxDimensions = 2;

  ArrayView() = default;
  ArrayView(const ArrayView&) = delete;
  ArrayView& operator=(const ArrayView&) = delete;
  ~ArrayView() { PyBuffer_Release(&buffer_); }

  // False if `value` is neither a buffer nor a DLPack object, or not of numbers in native order:
  // the caller may take it as a sequence. TypeError if it has not 1..`dimensions` dimensions, or
  // is not in the memory of the CPU.
  bool open(nb::handle value, const std::string& name, std::size_t dimensions);

  const void* data() const { return data_; }
  Kind kind() const { return kind_; }
  std::size_t itemsize() const { return itemsize_; }
  std::size_t dimensions() const { return dimensions_; }
  std::size_t rows() const { return shape_[0]; }  // 1 if there is one dimension
  std::size_t columns() const { return shape_[1]; }
  std::size_t size() const { return shape_[0] * shape_[1]; }
  // Whether the data are a C array of such elements: aligned, in order, without gaps.
  bool usable_as(Kind kind, std::size_t itemsize) const;
  const char* item(std::size_t row, std::size_t column) const;

 private:
  template <typename Shape, typename Strides>
  void set_layout(nb::handle value, const std::string& name, std::size_t dimensions,
                  std::size_t given, const Shape* shape, const Strides* strides,
                  std::ptrdiff_t unit);

  const void* data_ = nullptr;
  Kind kind_ = Kind::kOther;
  std::size_t itemsize_ = 0;
  std::size_t dimensions_ = 1;
  std::size_t shape_[kMaxDimensions] = {1, 1};
  std::ptrdiff_t strides_[kMaxDimensions] = {0, 0};  // in bytes
  Py_buffer buffer_{};
  nb::ndarray<nb::ro> tensor_;
};

// Whether an argument is read as an array: a buffer or DLPack object, and not a text.
bool is_array(nb::handle value);

// An int32 argument: a list, tuple, range or other sequence of integers, or an integer array or CPU
// tensor (of two dimensions too where `dimensions` is 2). An int32 array without gaps is used in
// place, anything else is copied. TypeError for all else, integers beyond int32 included.
class IntArray {
 public:
  // Reads at most `limit` items of a sequence.
  IntArray(nb::handle value, const std::string& name, std::size_t dimensions = 1,
           std::size_t limit = SIZE_MAX);

  const std::int32_t* data() const { return data_; }
  std::size_t size() const { return rows_ * columns_; }
  std::size_t rows() const { return rows_; }
  std::size_t columns() const { return columns_; }
  bool is_array() const { return is_array_; }
  std::size_t dimensions() const { return is_array_ ? view_.dimensions() : 1; }

 private:
  ArrayView view_;
  std::vector<std::int32_t> copy_;
  const std::int32_t* data_ = nullptr;
  std::size_t rows_ = 1;
  std::size_t columns_ = 0;
  bool is_array_ = false;
};

// A float argument, likewise: float32 arrays without gaps in place, other numbers converted.
class FloatArray {
 public:
  FloatArray(nb::handle value, const std::string& name, std::size_t dimensions = 1);

  const float* data() const { return data_; }
  std::size_t size() const { return rows_ * columns_; }
  std::size_t rows() const { return rows_; }
  std::size_t columns() const { return columns_; }
  // 1 for a sequence.
  std::size_t dimensions() const { return dimensions_; }

 private:
  ArrayView view_;
  std::vector<float> copy_;
  const float* data_ = nullptr;
  std::size_t rows_ = 1;
  std::size_t columns_ = 0;
  std::size_t dimensions_ = 1;
};

// The bytes of a `bytes` or `bytearray` argument, in place. TypeError for all else, str included.
class ByteString {
 public:
  ByteString(nb::handle value, const std::string& name);
  ByteString(const ByteString&) = delete;
  ByteString& operator=(const ByteString&) = delete;
  ~ByteString() { PyBuffer_Release(&buffer_); }

  const std::uint8_t* data() const { return static_cast<const std::uint8_t*>(buffer_.buf); }
  std::size_t size() const { return static_cast<std::size_t>(buffer_.len); }

 private:
  Py_buffer buffer_{};
};

// A new int32 numpy array and where to write its values.
class NewArray {
 public:
  explicit NewArray(std::size_t size);
  NewArray(std::size_t rows, std::size_t columns);
  std::int32_t* data() { return data_; }
  nb::object release() { return std::move(array_); }

 private:
  void make(nb::handle shape);
  nb::object array_;
  std::int32_t* data_ = nullptr;
};

// The items of a sequence that is not a text, as a list or tuple. TypeError for all else.
nb::object sequence_items(nb::handle value, const std::string& name, const char* rule);

nb::list to_list(const std::int32_t* values, std::size_t size);

// TypeError with the argument, the rule and the value given.
[[noreturn]] void type_error(const std::string& name, const std::string& rule, nb::handle value);

}  // namespace compressai
