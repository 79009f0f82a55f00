// SPDX-License-Identifier: BSD-3-Clause-Clear
// Arguments of the functions of compressai._kernels. Arrays are taken from Python here and nowhere
// else: what comes out of these functions is an array of the right type, never null, aligned.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "common.hpp"

namespace compressai {

namespace nb = nanobind;

// Contiguous float32 arrays on the CPU.
template <typename T, std::size_t kDimensions>
using Contiguous = nb::ndarray<T, nb::ndim<kDimensions>, nb::c_contig, nb::device::cpu>;
// The same with gaps between the elements.
template <typename T, std::size_t kDimensions>
using Strided = nb::ndarray<T, nb::ndim<kDimensions>, nb::device::cpu>;

using Values = Contiguous<const float, 1>;
// Weights: [panel][input][16 outputs].
using Panels = Contiguous<const float, 3>;

inline void check(bool holds, const std::string& what) {
  if (!holds) throw std::invalid_argument(what);
}

[[noreturn]] inline void refuse_type(const std::string& name, const std::string& rule,
                                     nb::handle given) {
  const nb::str type(given.type().attr("__name__"));
  throw nb::type_error((name + " must be " + rule + ", got " + type.c_str()).c_str());
}

// An array argument. It is never converted: a copy would be written to in place of the array.
template <typename T, std::size_t kDimensions, template <typename, std::size_t> class Kind>
Kind<T, kDimensions> take(nb::handle given, const std::string& name) {
  using Array = Kind<T, kDimensions>;
  Array array;
  // nanobind may read None as an array without memory.
  if (given.is_none() || !nb::try_cast(given, array, false) || !array.is_valid()) {
    constexpr bool contiguous = std::is_same_v<Array, Contiguous<T, kDimensions>>;
    refuse_type(name,
                std::string(contiguous ? "a contiguous" : "a") +
                    (std::is_const_v<T> ? "" : " writable") +
                    " float32 array or CPU tensor of " + std::to_string(kDimensions) +
                    (kDimensions == 1 ? " dimension" : " dimensions"),
                given);
  }
  const std::size_t beyond = reinterpret_cast<std::uintptr_t>(array.data()) % alignof(float);
  check(beyond == 0, name + " must be aligned to 4 bytes, got an address that is " +
                         std::to_string(beyond) + " beyond");
  return array;
}

inline Values take_values(nb::handle given, const std::string& name) {
  return take<const float, 1, Contiguous>(given, name);
}
inline Panels take_panels(nb::handle given, const std::string& name) {
  return take<const float, 3, Contiguous>(given, name);
}

// The items of a tuple or list of so many.
inline nb::tuple take_items(nb::handle given, std::size_t count, const std::string& name,
                            const std::string& rule) {
  if (!PyTuple_Check(given.ptr()) && !PyList_Check(given.ptr())) refuse_type(name, rule, given);
  nb::tuple items = nb::steal<nb::tuple>(PySequence_Tuple(given.ptr()));
  if (!items.is_valid()) nb::raise_python_error();
  check(items.size() == count, name + " must be " + rule + ", got " +
                                   std::to_string(items.size()) + " items");
  return items;
}

template <typename Array>
std::string shape_of(const Array& array) {
  std::string text = "(";
  for (std::size_t i = 0; i < array.ndim(); ++i) {
    text += (i ? ", " : "") + std::to_string(array.shape(i));
  }
  return text + ")";
}

template <typename Array>
void check_shape(const Array& array, std::initializer_list<std::size_t> shape,
                 const std::string& name) {
  std::string wanted;
  bool same = array.ndim() == shape.size();
  std::size_t axis = 0;
  for (const std::size_t side : shape) {
    wanted += (axis ? ", " : "") + std::to_string(side);
    same = same && array.shape(axis) == side;
    ++axis;
  }
  if (!same) check(false, name + " must be (" + wanted + "), got " + shape_of(array));
}

inline void check_threads(int threads) {
  check(threads > 0, "threads must be positive, got " + std::to_string(threads));
}

// The memory from the first value of an array to behind its last one. Strides are not negative.
struct Extent {
  const float* first = nullptr;
  const float* last = nullptr;

  template <typename Array>
  static Extent of(const Array& array) {
    std::size_t count = 1;
    for (std::size_t i = 0; i < array.ndim(); ++i) {
      if (array.shape(i) == 0) return {};
      count += (array.shape(i) - 1) * static_cast<std::size_t>(array.stride(i));
    }
    return {array.data(), array.data() + count};
  }
  bool meets(const Extent& other) const {
    const std::less<const float*> before;
    return before(first, other.last) && before(other.first, last);
  }
};

// What a function writes to, compared with what it reads: it may have written where it still reads.
template <typename Output, typename Array>
void check_apart(const Output& out, const Array& array, const std::string& name) {
  check(!Extent::of(out).meets(Extent::of(array)), "out must share no memory with " + name +
                                                       ", got arrays that overlap");
}

// The kernels of the module. One that stands in its file as `const Registered registered(&bind);` is
// a part of the module, and nobody else need know.
class Registered {
 public:
  using Bind = void (*)(nb::module_&);
  explicit Registered(Bind bind) { all().push_back(bind); }
  static std::vector<Bind>& all() {
    static std::vector<Bind> kernels;
    return kernels;
  }
};

inline void check_available() {
  if (!kernels_available()) throw std::runtime_error("no kernels for this processor");
}

}  // namespace compressai
