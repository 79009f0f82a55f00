// SPDX-License-Identifier: BSD-3-Clause-Clear
// Threads that work on one call together: those of the OpenMP library that torch has loaded.
#pragma once

#include <atomic>
#include <cstddef>

namespace compressai {

// Calls body(data) on up to `threads` threads at once, this one among them, and returns when all are
// done. How many there are is for the system to say: work has to be taken, not assigned. The body
// throws nothing.
void run_team(int threads, void (*body)(void*), void* data);

// Calls work(thread, item) for all items, each thread with a number of its own below `threads`.
template <typename Work>
void share_items(std::ptrdiff_t items, int threads, const Work& work) {
  struct Shared {
    const Work& work;
    const std::ptrdiff_t items;
    std::atomic<std::ptrdiff_t> next{0};
    std::atomic<int> members{0};
  } shared{work, items};
  run_team(
      threads,
      [](void* data) {
        Shared& mine = *static_cast<Shared*>(data);
        const std::size_t thread = static_cast<std::size_t>(mine.members.fetch_add(1));
        for (std::ptrdiff_t i; (i = mine.next.fetch_add(1)) < mine.items;) mine.work(thread, i);
      },
      &shared);
}

}  // namespace compressai
