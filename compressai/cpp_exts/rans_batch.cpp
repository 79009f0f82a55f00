// SPDX-License-Identifier: BSD-3-Clause-Clear
#include "rans_batch.hpp"

#include <algorithm>
#include <atomic>
#include <exception>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>

#include "rans_decoder.hpp"

namespace compressai {
namespace {

// Starting a thread costs about as much as coding this many symbols.
constexpr std::size_t kSymbolsPerThread = 8192;

// Threads that a call starts at most, where there are not more processors.
constexpr std::size_t kMostThreads = 256;

// Calls task(0) .. task(batch - 1). Each task runs exactly once even if others fail, so the error
// that is reported, that of the lowest item, is the same on every run.
template <typename Task>
void run(std::size_t batch, std::size_t count, std::size_t threads, const Task& task) {
  const std::size_t processors = std::max(1u, std::thread::hardware_concurrency());
  threads = threads == 0 ? processors : std::min(threads, std::max(processors, kMostThreads));
  const std::size_t useful = batch * std::max<std::size_t>(count, 1) / kSymbolsPerThread + 1;
  threads = std::min({threads, batch, useful});

  std::vector<std::exception_ptr> errors(batch);
  std::atomic<std::size_t> next{0};
  const auto work = [&] {
    for (std::size_t item; (item = next.fetch_add(1)) < batch;) {
      try {
        task(item);
      } catch (...) {
        errors[item] = std::current_exception();
      }
    }
  };
  std::vector<std::thread> helpers;
  helpers.reserve(threads);
  try {
    for (std::size_t i = 1; i < threads; ++i) helpers.emplace_back(work);
  } catch (const std::system_error&) {
    // The system has no thread left: those that started and this one do the work.
  }
  work();
  for (std::thread& helper : helpers) helper.join();

  for (std::size_t item = 0; item < batch; ++item) {
    if (!errors[item]) continue;
    try {
      std::rethrow_exception(errors[item]);
    } catch (const std::invalid_argument& error) {
      throw std::invalid_argument("batch item " + std::to_string(item) + ": " + error.what());
    }
  }
}

}  // namespace

std::vector<EncodedStream> encode_batch(const std::int32_t* symbols, const std::int32_t* indexes,
                                        std::size_t batch, std::size_t count,
                                        const CdfTables& tables, std::size_t threads,
                                        Layout layout) {
  std::vector<EncodedStream> streams(batch);
  run(batch, count, threads, [&](std::size_t item) {
    streams[item] = encode(symbols + item * count, indexes + item * count, count, tables, layout);
  });
  return streams;
}

void decode_batch(const std::vector<StreamBytes>& streams, const std::int32_t* indexes,
                  std::size_t count, const CdfTables& tables, bool check_end, std::size_t threads,
                  std::int32_t* out) {
  run(streams.size(), count, threads, [&](std::size_t item) {
    StreamReader reader(streams[item].data, streams[item].size);
    reader.decode(indexes + item * count, count, tables, out + item * count);
    if (check_end) reader.check_finished();
  });
}

}  // namespace compressai
