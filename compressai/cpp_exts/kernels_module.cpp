// SPDX-License-Identifier: BSD-3-Clause-Clear
// The Python module compressai._kernels: layers for inference on the CPU. Each is in kernels/.
#include <cstdlib>
#include <string_view>

#ifdef COMPRESSAI_KERNELS
#include <cpuid.h>
#endif

#include "kernels/arguments.hpp"

namespace compressai {
namespace {

#ifdef COMPRESSAI_KERNELS
struct Instructions {
  bool avx2 = false, avx512 = false;
};

// What the processor has and the system keeps registers for. Asked of the processor itself, since
// __builtin_cpu_supports finds nothing where the compiler's own library is that of zig.
Instructions find_instructions() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx)) return {};
  constexpr unsigned kFma = 1u << 12, kXsave = 1u << 27, kAvx = 1u << 28;
  if ((ecx & kFma) == 0 || (ecx & kXsave) == 0 || (ecx & kAvx) == 0) return {};
  unsigned kept = 0, above = 0;
  __asm__("xgetbv" : "=a"(kept), "=d"(above) : "c"(0));
  if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) return {};
  constexpr unsigned kYmm = 0x06, kZmm = 0xe6, kAvx2 = 1u << 5, kAvx512f = 1u << 16;
  const bool avx2 = (kept & kYmm) == kYmm && (ebx & kAvx2) != 0;
  return {avx2, avx2 && (kept & kZmm) == kZmm && (ebx & kAvx512f) != 0};
}

Instructions instructions() {
  static const Instructions found = find_instructions();
  return found;
}
#endif

constexpr const char* kModule = R"(Layers for inference on x86 processors with AVX2, for :mod:`compressai.inference`.

Feature maps are float32, CPU, channels last: contiguous ``(N, H, W, C)``, with a multiple of 16
channels. Results differ from those of torch in the last digits. Arguments that do not fit raise
ValueError or TypeError, so do arrays that are not aligned to 4 bytes, and an output that shares
memory with an input; RuntimeError where :func:`available` is false.)";

constexpr const char* kAvailable = R"(Whether this processor has the instructions that the layers need.

The environment variable ``ATEN_CPU_CAPABILITY`` limits the layers as it limits torch: with
``default`` there are none, with ``avx2`` those without AVX-512.)";

[[maybe_unused]] bool limited_to(std::string_view capability) {
  const char* limit = std::getenv("ATEN_CPU_CAPABILITY");
  return limit != nullptr && capability == limit;
}

}  // namespace

bool kernels_available() {
#ifdef COMPRESSAI_KERNELS
  static const bool limited = limited_to("default");
  return !limited && instructions().avx2;
#else
  return false;
#endif
}

bool has_avx512() {
#ifdef COMPRESSAI_KERNELS
  static const bool limited = limited_to("avx2");
  return !limited && instructions().avx512;
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
