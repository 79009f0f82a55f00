// SPDX-License-Identifier: BSD-3-Clause-Clear
// The Python module compressai._kernels: layers for inference on the CPU. Each is in kernels/.
#include <cstdlib>
#include <string_view>

#include "kernels/arguments.hpp"

namespace compressai {
namespace {

constexpr const char* kModule = R"(Layers for inference on x86 processors with AVX2, for :mod:`compressai.inference`.

Feature maps are float32, CPU, channels last: contiguous ``(N, H, W, C)``, with a multiple of 16
channels. Results differ from those of torch in the last digits. Arguments that do not fit raise
ValueError or TypeError, so do arrays that are not aligned to 4 bytes, and an output that shares
memory with an input; RuntimeError where :func:`available` is false.)";

constexpr const char* kAvailable = R"(Whether this processor has the instructions that the layers need.

The environment variable ``ATEN_CPU_CAPABILITY`` limits the layers as it limits torch: with
``default`` there are none, with ``avx2`` those without AVX-512.)";

bool limited_to(std::string_view capability) {
  const char* limit = std::getenv("ATEN_CPU_CAPABILITY");
  return limit != nullptr && capability == limit;
}

}  // namespace

bool kernels_available() {
#ifdef COMPRESSAI_KERNELS
  static const bool limited = limited_to("default");
  return !limited && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
  return false;
#endif
}

bool has_avx512() {
#ifdef COMPRESSAI_KERNELS
  static const bool limited = limited_to("avx2");
  return !limited && __builtin_cpu_supports("avx512f");
#else
  return false;
#endif
}

NB_MODULE(_kernels, m) {
  nb::set_leak_warnings(false);
  m.doc() = kModule;
  m.def("available", &kernels_available, nb::sig("def available() -> bool"), kAvailable);
  for (const auto bind : Registered::all()) bind(m);
}

}  // namespace compressai
