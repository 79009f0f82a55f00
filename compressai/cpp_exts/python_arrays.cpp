// SPDX-License-Identifier: BSD-3-Clause-Clear
#include "python_arrays.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

namespace compressai {
namespace {

constexpr const char* kIntRule = "must be a sequence, array or CPU tensor of int32";
constexpr const char* kFloatRule = "must be a sequence, array or CPU tensor of float32";

bool is_text(nb::handle value) {
  return PyUnicode_Check(value.ptr()) || PyBytes_Check(value.ptr()) ||
         PyByteArray_Check(value.ptr());
}

// The struct module's letter of a native number.
ArrayView::Kind kind_of_format(const char* format) {
  if (format == nullptr) return ArrayView::Kind::kUnsigned;
  if (*format == '@' || *format == '=') {
    ++format;
#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  } else if (*format == '<') {
    ++format;
#endif
  }
  if (format[0] == '\0' || format[1] != '\0') return ArrayView::Kind::kOther;
  if (std::strchr("bhilqn", *format) != nullptr) return ArrayView::Kind::kInteger;
  if (std::strchr("?BHILQN", *format) != nullptr) return ArrayView::Kind::kUnsigned;
  if (std::strchr("fd", *format) != nullptr) return ArrayView::Kind::kFloat;
  return ArrayView::Kind::kOther;
}

ArrayView::Kind kind_of_dtype(nb::dlpack::dtype dtype) {
  if (dtype.lanes != 1) return ArrayView::Kind::kOther;
  switch (static_cast<nb::dlpack::dtype_code>(dtype.code)) {
    case nb::dlpack::dtype_code::Int:
      return ArrayView::Kind::kInteger;
    case nb::dlpack::dtype_code::UInt:
    case nb::dlpack::dtype_code::Bool:
      return ArrayView::Kind::kUnsigned;
    case nb::dlpack::dtype_code::Float:
      return ArrayView::Kind::kFloat;
    default:
      return ArrayView::Kind::kOther;
  }
}

// Calls visit(number) for every element, with the element's own type. False if there is no C++
// type for it (a half, for example).
template <typename Visit>
bool for_each_number(const ArrayView& view, const Visit& visit) {
  const auto as = [&](auto example) {
    for (std::size_t row = 0; row < view.rows(); ++row) {
      for (std::size_t column = 0; column < view.columns(); ++column) {
        std::memcpy(&example, view.item(row, column), sizeof example);
        visit(example);
      }
    }
    return true;
  };
  switch (view.kind()) {
    case ArrayView::Kind::kInteger:
      if (view.itemsize() == 1) return as(std::int8_t{});
      if (view.itemsize() == 2) return as(std::int16_t{});
      if (view.itemsize() == 4) return as(std::int32_t{});
      if (view.itemsize() == 8) return as(std::int64_t{});
      return false;
    case ArrayView::Kind::kUnsigned:
      if (view.itemsize() == 1) return as(std::uint8_t{});
      if (view.itemsize() == 2) return as(std::uint16_t{});
      if (view.itemsize() == 4) return as(std::uint32_t{});
      if (view.itemsize() == 8) return as(std::uint64_t{});
      return false;
    case ArrayView::Kind::kFloat:
      if (view.itemsize() == 4) return as(float{});
      if (view.itemsize() == 8) return as(double{});
      return false;
    case ArrayView::Kind::kOther:
      break;
  }
  return false;
}

template <typename T>
bool fits_int32(T value) {
  if constexpr (std::is_signed_v<T>) {
    return value >= std::numeric_limits<std::int32_t>::min() &&
           value <= std::numeric_limits<std::int32_t>::max();
  } else {
    return value <= static_cast<std::uint64_t>(std::numeric_limits<std::int32_t>::max());
  }
}

std::string item_name(const std::string& name, std::size_t i) {
  return name + "[" + std::to_string(i) + "]";
}

std::int32_t int_item(PyObject* item, const std::string& name, std::size_t i) {
  // Anything but a plain int goes by __index__: bool, numpy integers, tensors of no dimension.
  nb::object number = nb::borrow(item);
  if (!PyLong_CheckExact(item)) {
    number = nb::steal(PyNumber_Index(item));
    if (!number.is_valid()) {
      PyErr_Clear();
      type_error(item_name(name, i), "must be an int32", item);
    }
  }
  int overflow = 0;
  const long long value = PyLong_AsLongLongAndOverflow(number.ptr(), &overflow);
  if (overflow != 0 || !fits_int32(value)) {
    type_error(item_name(name, i), "must be within int32", number);
  }
  return static_cast<std::int32_t>(value);
}

float float_item(PyObject* item, const std::string& name, std::size_t i) {
  const nb::object kept = nb::borrow(item);
  const double value = PyFloat_AsDouble(item);
  if (value == -1.0 && PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    type_error(item_name(name, i), "must be a number", item);
  }
  return static_cast<float>(value);
}

// Appends convert(item) for at most `limit` items of a sequence. The conversion may run Python
// code that changes the sequence, so its size is looked at anew for each item.
template <typename T, typename Convert>
void convert_items(nb::handle value, const std::string& name, const char* rule, std::size_t limit,
                   std::vector<T>& out, const Convert& convert) {
  const nb::object items = sequence_items(value, name, rule);
  // It is a list or a tuple. The stable ABI has functions for these in place of macros for both.
  const bool is_list = PyList_Check(items.ptr());
  const auto size = [&] {
    return static_cast<std::size_t>(is_list ? PyList_Size(items.ptr()) : PyTuple_Size(items.ptr()));
  };
  out.reserve(std::min(size(), limit));
  for (std::size_t i = 0; i < size() && i < limit; ++i) {
    const auto at = static_cast<Py_ssize_t>(i);
    PyObject* item = is_list ? PyList_GetItem(items.ptr(), at) : PyTuple_GetItem(items.ptr(), at);
    out.push_back(convert(item, name, i));
  }
}

}  // namespace

void type_error(const std::string& name, const std::string& rule, nb::handle value) {
  std::string given = nb::str(value.type().attr("__name__")).c_str();
  if (PyLong_Check(value.ptr())) given = nb::str(value).c_str();
  throw nb::type_error((name + " " + rule + ", got " + given).c_str());
}

template <typename Shape, typename Strides>
void ArrayView::set_layout(nb::handle value, const std::string& name, std::size_t dimensions,
                           std::size_t given, const Shape* shape, const Strides* strides,
                           std::ptrdiff_t unit) {
  if (given < 1 || given > dimensions) {
    type_error(name,
               std::string("must have ") + (dimensions == 1 ? "1 dimension" : "1 or 2 dimensions") +
                   " and not " + std::to_string(given),
               value);
  }
  dimensions_ = given;
  for (std::size_t d = 0; d < given; ++d) {
    shape_[kMaxDimensions - given + d] = static_cast<std::size_t>(shape[d]);
    strides_[kMaxDimensions - given + d] = static_cast<std::ptrdiff_t>(strides[d]) * unit;
  }
}

bool ArrayView::open(nb::handle value, const std::string& name, std::size_t dimensions) {
  if (is_text(value)) return false;
  if (PyObject_CheckBuffer(value.ptr())) {
    if (PyObject_GetBuffer(value.ptr(), &buffer_, PyBUF_STRIDES | PyBUF_FORMAT) != 0) {
      PyErr_Clear();
      return false;
    }
    kind_ = kind_of_format(buffer_.format);
    if (kind_ == Kind::kOther) return false;
    data_ = buffer_.buf;
    itemsize_ = static_cast<std::size_t>(buffer_.itemsize);
    set_layout(value, name, dimensions, static_cast<std::size_t>(buffer_.ndim), buffer_.shape,
               buffer_.strides, 1);
    return true;
  }
  if (!nb::ndarray_check(value)) return false;
  if (!nb::try_cast(value, tensor_)) return false;
  if (tensor_.device_type() != nb::device::cpu::value) {
    type_error(name, "must be in the memory of the CPU", value);
  }
  kind_ = kind_of_dtype(tensor_.dtype());
  if (kind_ == Kind::kOther) return false;
  data_ = tensor_.data();
  itemsize_ = tensor_.itemsize();
  set_layout(value, name, dimensions, tensor_.ndim(), tensor_.shape_ptr(), tensor_.stride_ptr(),
             static_cast<std::ptrdiff_t>(itemsize_));
  return true;
}

bool ArrayView::usable_as(Kind kind, std::size_t itemsize) const {
  if (kind_ != kind || itemsize_ != itemsize) return false;
  if (reinterpret_cast<std::uintptr_t>(data_) % itemsize != 0) return false;
  const auto step = static_cast<std::ptrdiff_t>(itemsize_);
  return size() == 0 ||
         ((shape_[1] == 1 || strides_[1] == step) &&
          (shape_[0] == 1 || strides_[0] == step * static_cast<std::ptrdiff_t>(shape_[1])));
}

const char* ArrayView::item(std::size_t row, std::size_t column) const {
  return static_cast<const char*>(data_) + static_cast<std::ptrdiff_t>(row) * strides_[0] +
         static_cast<std::ptrdiff_t>(column) * strides_[1];
}

bool is_array(nb::handle value) {
  return !is_text(value) && (PyObject_CheckBuffer(value.ptr()) != 0 || nb::ndarray_check(value));
}

IntArray::IntArray(nb::handle value, const std::string& name, std::size_t dimensions,
                   std::size_t limit) {
  is_array_ = view_.open(value, name, dimensions);
  if (!is_array_) {
    convert_items(value, name, kIntRule, limit, copy_, int_item);
    data_ = copy_.data();
    columns_ = copy_.size();
    return;
  }
  if (view_.kind() == ArrayView::Kind::kFloat && view_.size() != 0) {
    type_error(name, kIntRule, value);
  }
  rows_ = view_.rows();
  columns_ = view_.columns();
  if (view_.usable_as(ArrayView::Kind::kInteger, sizeof(std::int32_t))) {
    data_ = static_cast<const std::int32_t*>(view_.data());
    return;
  }
  copy_.reserve(size());
  const bool known = for_each_number(view_, [&](auto number) {
    if constexpr (std::is_integral_v<decltype(number)>) {
      if (!fits_int32(number)) {
        throw nb::type_error((name + " must be within int32, got " + std::to_string(number)).c_str());
      }
      copy_.push_back(static_cast<std::int32_t>(number));
    }
  });
  if (!known) type_error(name, kIntRule, value);
  data_ = copy_.data();
}

FloatArray::FloatArray(nb::handle value, const std::string& name, std::size_t dimensions) {
  if (!view_.open(value, name, dimensions)) {
    convert_items(value, name, kFloatRule, SIZE_MAX, copy_, float_item);
    data_ = copy_.data();
    columns_ = copy_.size();
    return;
  }
  rows_ = view_.rows();
  columns_ = view_.columns();
  dimensions_ = view_.dimensions();
  if (view_.usable_as(ArrayView::Kind::kFloat, sizeof(float))) {
    data_ = static_cast<const float*>(view_.data());
    return;
  }
  copy_.reserve(size());
  if (!for_each_number(view_, [&](auto number) { copy_.push_back(static_cast<float>(number)); })) {
    type_error(name, kFloatRule, value);
  }
  data_ = copy_.data();
}

nb::object sequence_items(nb::handle value, const std::string& name, const char* rule) {
  if (is_text(value) || !PySequence_Check(value.ptr())) type_error(name, rule, value);
  nb::object items = nb::steal(PySequence_Fast(value.ptr(), "not a sequence"));
  if (!items.is_valid()) {
    PyErr_Clear();
    type_error(name, rule, value);
  }
  return items;
}

ByteString::ByteString(nb::handle value, const std::string& name) {
  if (!PyBytes_Check(value.ptr()) && !PyByteArray_Check(value.ptr())) {
    type_error(name, "must be bytes or bytearray", value);
  }
  if (PyObject_GetBuffer(value.ptr(), &buffer_, PyBUF_SIMPLE) != 0) nb::raise_python_error();
}

NewArray::NewArray(std::size_t size) { make(nb::steal(PyLong_FromSize_t(size))); }

NewArray::NewArray(std::size_t rows, std::size_t columns) { make(nb::make_tuple(rows, columns)); }

void NewArray::make(nb::handle shape) {
  // Kept for ever: numpy outlives this module, and a call of the decoder should not import.
  static nb::handle* const numpy = [] {
    const nb::module_ module = nb::module_::import_("numpy");
    return new nb::handle[2]{nb::object(module.attr("empty")).release(),
                             nb::object(module.attr("int32")).release()};
  }();
  PyObject* arguments[] = {shape.ptr(), numpy[1].ptr()};
  array_ = nb::steal(PyObject_Vectorcall(numpy[0].ptr(), arguments, 2, nullptr));
  if (!array_.is_valid()) nb::raise_python_error();
  Py_buffer buffer;
  if (PyObject_GetBuffer(array_.ptr(), &buffer, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE) != 0) {
    nb::raise_python_error();
  }
  data_ = static_cast<std::int32_t*>(buffer.buf);
  PyBuffer_Release(&buffer);  // nobody else has the array yet, so the memory stays where it is
}

nb::list to_list(const std::int32_t* values, std::size_t size) {
  nb::list list = nb::steal<nb::list>(PyList_New(static_cast<Py_ssize_t>(size)));
  if (!list.is_valid()) nb::raise_python_error();
  for (std::size_t i = 0; i < size; ++i) {
    PyObject* item = PyLong_FromLong(values[i]);
    if (item == nullptr) nb::raise_python_error();
    if (PyList_SetItem(list.ptr(), static_cast<Py_ssize_t>(i), item) != 0) nb::raise_python_error();
  }
  return list;
}

}  // namespace compressai
