// SPDX-License-Identifier: BSD-3-Clause-Clear
#include "team.hpp"

#include <system_error>
#include <thread>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <dlfcn.h>
#endif

namespace compressai {
namespace {

// What compilers make of a parallel region for GNU's OpenMP library; those of LLVM and Intel on
// Linux have it, too.
using Parallel = void (*)(void (*)(void*), void*, unsigned, unsigned);

// Linked with, a wheel would need an OpenMP library, and would bring a second one with threads of its
// own beside torch's. torch loads its one for all to see.
Parallel find_parallel() {
#if defined(__unix__) || defined(__APPLE__)
  return reinterpret_cast<Parallel>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
#else
  return nullptr;
#endif
}

void run_own_threads(int threads, void (*body)(void*), void* data) {
  std::vector<std::thread> others;
  others.reserve(static_cast<std::size_t>(threads - 1));
  try {
    for (int i = 1; i < threads; ++i) others.emplace_back(body, data);
  } catch (const std::system_error&) {
    // The system has no more: those that there are do all.
  }
  body(data);
  for (std::thread& other : others) other.join();
}

}  // namespace

void run_team(int threads, void (*body)(void*), void* data) {
  if (threads <= 1) {
    body(data);
    return;
  }
  // Again at each call until there is one: torch may come later.
  static std::atomic<Parallel> known{nullptr};
  Parallel parallel = known.load(std::memory_order_relaxed);
  if (parallel == nullptr) known.store(parallel = find_parallel(), std::memory_order_relaxed);
  if (parallel == nullptr) {
    run_own_threads(threads, body, data);
  } else {
    parallel(body, data, static_cast<unsigned>(threads), 0);
  }
}

}  // namespace compressai
