// SPDX-License-Identifier: BSD-3-Clause-Clear
// Which instructions the kernels may use on this processor.
#include <cstdlib>
#include <string_view>

#ifdef COMPRESSAI_KERNELS
#include <cpuid.h>
#endif

#include "kernels/common.hpp"

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

}  // namespace compressai
