// SPDX-License-Identifier: BSD-3-Clause-Clear
// The Python module compressai.ans: argument handling and locking around the coder.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "ans_docs.hpp"
#include "cdf_tables.hpp"
#include "python_arrays.hpp"
#include "rans_batch.hpp"
#include "rans_decoder.hpp"
#include "rans_encoder.hpp"

using namespace nanobind::literals;

namespace compressai {
namespace {

// Calls that take some microseconds keep the interpreter lock: giving it away can mean to wait
// milliseconds for it.
constexpr std::size_t kShortCall = 4096;

// Runs `task` alone on `mutex` (if any), without the interpreter lock unless the call is short.
// Never waits for the mutex while it holds the interpreter lock, which its owner may need.
template <typename Task>
void run(std::size_t symbols, std::mutex* mutex, const Task& task) {
  if (symbols <= kShortCall) {
    if (mutex == nullptr) return task();
    const std::unique_lock<std::mutex> lock(*mutex, std::try_to_lock);
    if (lock.owns_lock()) return task();
  }
  const nb::gil_scoped_release release;
  std::unique_lock<std::mutex> lock;
  if (mutex != nullptr) lock = std::unique_lock<std::mutex>(*mutex);
  task();
}

void check_equal(const std::string& name, std::size_t size, const std::string& other,
                 std::size_t other_size) {
  if (size == other_size) return;
  throw std::invalid_argument(name + " must have as many elements as " + other + ", got " +
                              std::to_string(size) + " and " + std::to_string(other_size));
}

CdfTables make_tables(nb::handle cdfs, nb::handle cdfs_sizes, nb::handle offsets) {
  const IntArray sizes(cdfs_sizes, "cdfs_sizes");
  const IntArray first(offsets, "offsets");
  std::vector<CdfRow> rows;
  std::deque<IntArray> kept;
  if (is_array(cdfs)) {
    const IntArray& matrix = kept.emplace_back(cdfs, "cdfs", 2);
    if (matrix.dimensions() != 2) type_error("cdfs", "must have 2 dimensions", cdfs);
    // Now and not only below: an array without columns has any number of rows.
    check_equal("cdfs_sizes", sizes.size(), "rows of cdfs", matrix.rows());
    for (std::size_t r = 0; r < matrix.rows(); ++r) {
      rows.push_back({matrix.data() + r * matrix.columns(), matrix.columns()});
    }
  } else {
    const nb::object items = sequence_items(cdfs, "cdfs", "must be a sequence of int32 rows");
    for (std::size_t r = 0; r < nb::len(items); ++r) {
      // Padding behind the valid entries is not even converted.
      const std::size_t limit = r < sizes.size() && sizes.data()[r] > 0
                                    ? static_cast<std::size_t>(sizes.data()[r])
                                    : SIZE_MAX;
      const nb::object item = items[r];
      const IntArray& row = kept.emplace_back(item, "cdfs[" + std::to_string(r) + "]", 1, limit);
      rows.push_back({row.data(), row.size()});
    }
  }
  check_equal("cdfs_sizes", sizes.size(), "rows of cdfs", rows.size());
  check_equal("offsets", first.size(), "rows of cdfs", rows.size());
  return CdfTables(rows, sizes.data(), first.data());
}

nb::bytes to_bytes(const EncodedStream& stream) {
  nb::bytes bytes = nb::steal<nb::bytes>(
      PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(stream.bytes())));
  if (!bytes.is_valid()) nb::raise_python_error();
  stream.write(reinterpret_cast<std::uint8_t*>(PyBytes_AsString(bytes.ptr())));
  return bytes;
}

Layout layout_of(bool interleave) { return interleave ? Layout::kBySize : Layout::kPlain; }

class RansEncoder {
 public:
  nb::bytes encode(nb::handle symbols, nb::handle indexes, const CdfTables& tables) const {
    const IntArray values(symbols, "symbols");
    const IntArray rows(indexes, "indexes");
    check_equal("symbols", values.size(), "indexes", rows.size());
    EncodedStream stream;
    run(values.size(), nullptr, [&] {
      stream = compressai::encode(values.data(), rows.data(), values.size(), tables);
    });
    return to_bytes(stream);
  }

  nb::bytes encode_raw(nb::handle symbols, nb::handle indexes, nb::handle cdfs,
                       nb::handle cdfs_sizes, nb::handle offsets) const {
    return encode(symbols, indexes, make_tables(cdfs, cdfs_sizes, offsets));
  }
};

class BufferedRansEncoder {
 public:
  void append(nb::handle symbols, nb::handle indexes, const CdfTables& tables) {
    const IntArray values(symbols, "symbols");
    const IntArray rows(indexes, "indexes");
    check_equal("symbols", values.size(), "indexes", rows.size());
    run(values.size(), &mutex_,
        [&] { queue_.append(values.data(), rows.data(), values.size(), tables); });
  }

  void append_raw(nb::handle symbols, nb::handle indexes, nb::handle cdfs, nb::handle cdfs_sizes,
                  nb::handle offsets) {
    append(symbols, indexes, make_tables(cdfs, cdfs_sizes, offsets));
  }

  nb::bytes flush(bool interleave) {
    EncodedStream stream;
    run(SIZE_MAX, &mutex_, [&] { stream = queue_.flush(layout_of(interleave)); });
    return to_bytes(stream);
  }

 private:
  std::mutex mutex_;
  OperationQueue queue_;
};

class RansDecoder {
 public:
  nb::object decode(nb::handle encoded, nb::handle indexes, const CdfTables& tables,
                    bool check_end) const {
    const ByteString bytes(encoded, "encoded");
    StreamReader reader(bytes.data(), bytes.size());
    return decode_from(indexes, nullptr, [&](const IntArray& rows, std::int32_t* out) {
      reader.decode(rows.data(), rows.size(), tables, out);
      if (check_end) reader.check_finished();
    });
  }

  nb::object decode_raw(nb::handle encoded, nb::handle indexes, nb::handle cdfs,
                        nb::handle cdfs_sizes, nb::handle offsets, bool check_end) const {
    return decode(encoded, indexes, make_tables(cdfs, cdfs_sizes, offsets), check_end);
  }

  void set_stream(nb::handle encoded) {
    const ByteString bytes(encoded, "encoded");
    std::vector<std::uint8_t> copy(bytes.data(), bytes.data() + bytes.size());
    const StreamReader reader(copy.data(), copy.size());
    run(0, &mutex_, [&] {
      bytes_.swap(copy);  // keeps the addresses that `reader` has
      reader_ = reader;
    });
  }

  nb::object decode_stream(nb::handle indexes, const CdfTables& tables) {
    return decode_from(indexes, &mutex_, [&](const IntArray& rows, std::int32_t* out) {
      StreamReader reader = current();
      reader.decode(rows.data(), rows.size(), tables, out);
      reader_ = reader;  // only now: a failed call leaves the position alone
    });
  }

  nb::object decode_stream_raw(nb::handle indexes, nb::handle cdfs, nb::handle cdfs_sizes,
                               nb::handle offsets) {
    return decode_stream(indexes, make_tables(cdfs, cdfs_sizes, offsets));
  }

  bool finished() {
    bool result = false;
    run(0, &mutex_, [&] { result = current().finished(); });
    return result;
  }

 private:
  const StreamReader& current() const {
    if (!reader_) throw std::invalid_argument("set_stream must be called first");
    return *reader_;
  }

  // An array for an array of indexes, else a list.
  template <typename Decode>
  static nb::object decode_from(nb::handle indexes, std::mutex* mutex, const Decode& decode) {
    const IntArray rows(indexes, "indexes");
    if (rows.is_array()) {
      NewArray values(rows.size());
      run(rows.size(), mutex, [&] { decode(rows, values.data()); });
      return values.release();
    }
    std::vector<std::int32_t> values(rows.size());
    run(rows.size(), mutex, [&] { decode(rows, values.data()); });
    return to_list(values.data(), values.size());
  }

  std::mutex mutex_;
  std::vector<std::uint8_t> bytes_;
  std::optional<StreamReader> reader_;
};

std::size_t thread_count(int threads) {
  if (threads < 0) {
    throw std::invalid_argument("threads must be at least 0 (0: one per processor), got " +
                                std::to_string(threads));
  }
  return static_cast<std::size_t>(threads);
}

void check_matrix(const IntArray& array, const std::string& name, nb::handle given) {
  if (!array.is_array() || array.dimensions() != 2) {
    type_error(name, "must be an array or CPU tensor of 2 dimensions (batch, symbols)", given);
  }
}

nb::list encode_many(nb::handle symbols, nb::handle indexes, const CdfTables& tables, int threads,
                     bool interleave) {
  const IntArray values(symbols, "symbols", 2);
  const IntArray rows(indexes, "indexes", 2);
  check_matrix(values, "symbols", symbols);
  check_matrix(rows, "indexes", indexes);
  check_equal("symbols", values.rows(), "indexes along dimension 0", rows.rows());
  check_equal("symbols", values.columns(), "indexes along dimension 1", rows.columns());
  const std::size_t helpers = thread_count(threads);
  std::vector<EncodedStream> streams;
  run(values.size(), nullptr, [&] {
    streams = compressai::encode_batch(values.data(), rows.data(), values.rows(), values.columns(),
                                       tables, helpers, layout_of(interleave));
  });
  nb::list result;
  for (const EncodedStream& stream : streams) result.append(to_bytes(stream));
  return result;
}

nb::object decode_many(nb::handle encoded, nb::handle indexes, const CdfTables& tables,
                       int threads, bool check_end) {
  const nb::object items = sequence_items(encoded, "encoded", "must be a sequence of bytes");
  std::deque<ByteString> strings;
  std::vector<StreamBytes> streams;
  for (std::size_t i = 0; i < nb::len(items); ++i) {
    const nb::object item = items[i];
    const ByteString& bytes = strings.emplace_back(item, "encoded[" + std::to_string(i) + "]");
    streams.push_back({bytes.data(), bytes.size()});
  }
  const IntArray rows(indexes, "indexes", 2);
  check_matrix(rows, "indexes", indexes);
  check_equal("indexes along dimension 0", rows.rows(), "encoded", streams.size());
  const std::size_t helpers = thread_count(threads);
  NewArray values(rows.rows(), rows.columns());
  run(rows.size(), nullptr, [&] {
    compressai::decode_batch(streams, rows.data(), rows.columns(), tables, check_end, helpers,
                             values.data());
  });
  return values.release();
}

nb::tuple reduce_tables(nb::handle_t<CdfTables> self) {
  if (!nb::inst_ready(self)) throw nb::type_error("self must be initialised");
  const CdfTables& tables = *nb::inst_ptr<CdfTables>(self);
  nb::list cdfs, sizes, offsets;
  for (std::size_t r = 0; r < tables.rows(); ++r) {
    const std::vector<std::int32_t> cdf = tables.cdf(r);
    cdfs.append(to_list(cdf.data(), cdf.size()));
    sizes.append(cdf.size());
    offsets.append(tables.row(static_cast<std::int32_t>(r), r).offset);
  }
  return nb::make_tuple(self.type(), nb::make_tuple(cdfs, sizes, offsets));
}

}  // namespace

NB_MODULE(ans, m) {
  // Models live until the interpreter ends, and with them their coders: no leak, no warning.
  nb::set_leak_warnings(false);
  m.doc() = docs::kModule;

  nb::class_<CdfTables>(m, "CdfTables", docs::kCdfTables)
      .def(
          "__init__",
          [](CdfTables* self, nb::handle cdfs, nb::handle cdfs_sizes, nb::handle offsets) {
            new (self) CdfTables(make_tables(cdfs, cdfs_sizes, offsets));
          },
          "cdfs"_a, "cdfs_sizes"_a, "offsets"_a,
          nb::sig("def __init__(self, cdfs: IntRows, cdfs_sizes: Ints, offsets: Ints) -> None"))
      .def("__len__", &CdfTables::rows)
      .def_prop_ro("nbytes", &CdfTables::memory, docs::kNbytes)
      .def("__repr__",
           [](const CdfTables& tables) {
             return "CdfTables(" + std::to_string(tables.rows()) + " rows, " +
                    std::to_string(tables.memory()) + " bytes)";
           })
      .def("__copy__", [](nb::handle_t<CdfTables> self) { return nb::borrow(self); },
           nb::sig("def __copy__(self) -> CdfTables"))
      .def("__deepcopy__", [](nb::handle_t<CdfTables> self, nb::handle) { return nb::borrow(self); },
           "memo"_a, nb::sig("def __deepcopy__(self, memo: object) -> CdfTables"))
      .def("__reduce__", &reduce_tables,
           nb::sig("def __reduce__(self) -> tuple[object, ...]"));

  nb::class_<RansEncoder>(m, "RansEncoder", docs::kRansEncoder)
      .def(nb::init<>())
      .def("encode_with_indexes", &RansEncoder::encode, "symbols"_a, "indexes"_a, "tables"_a,
           nb::sig("def encode_with_indexes(self, symbols: Ints, indexes: Ints, "
                   "tables: CdfTables) -> bytes"),
           docs::kEncode)
      .def("encode_with_indexes", &RansEncoder::encode_raw, "symbols"_a, "indexes"_a, "cdfs"_a,
           "cdfs_sizes"_a, "offsets"_a,
           nb::sig("def encode_with_indexes(self, symbols: Ints, indexes: Ints, cdfs: IntRows, "
                   "cdfs_sizes: Ints, offsets: Ints) -> bytes"),
           docs::kRaw);

  nb::class_<BufferedRansEncoder>(m, "BufferedRansEncoder", docs::kBufferedRansEncoder)
      .def(nb::init<>())
      .def("encode_with_indexes", &BufferedRansEncoder::append, "symbols"_a, "indexes"_a,
           "tables"_a,
           nb::sig("def encode_with_indexes(self, symbols: Ints, indexes: Ints, "
                   "tables: CdfTables) -> None"),
           docs::kAppend)
      .def("encode_with_indexes", &BufferedRansEncoder::append_raw, "symbols"_a, "indexes"_a,
           "cdfs"_a, "cdfs_sizes"_a, "offsets"_a,
           nb::sig("def encode_with_indexes(self, symbols: Ints, indexes: Ints, cdfs: IntRows, "
                   "cdfs_sizes: Ints, offsets: Ints) -> None"),
           docs::kRaw)
      .def("flush", &BufferedRansEncoder::flush, nb::kw_only(), "interleave"_a = false,
           nb::sig("def flush(self, *, interleave: bool = False) -> bytes"), docs::kFlush);

  nb::class_<RansDecoder>(m, "RansDecoder", docs::kRansDecoder)
      .def(nb::init<>())
      .def("decode_with_indexes", &RansDecoder::decode, "encoded"_a, "indexes"_a, "tables"_a,
           nb::kw_only(), "check_end"_a = false,
           nb::sig("def decode_with_indexes(self, encoded: bytes | bytearray, indexes: Ints, "
                   "tables: CdfTables, *, check_end: bool = False) "
                   "-> list[int] | NDArray[numpy.int32]"),
           docs::kDecode)
      .def("decode_with_indexes", &RansDecoder::decode_raw, "encoded"_a, "indexes"_a, "cdfs"_a,
           "cdfs_sizes"_a, "offsets"_a, nb::kw_only(), "check_end"_a = false,
           nb::sig("def decode_with_indexes(self, encoded: bytes | bytearray, indexes: Ints, "
                   "cdfs: IntRows, cdfs_sizes: Ints, offsets: Ints, *, "
                   "check_end: bool = False) -> list[int] | NDArray[numpy.int32]"),
           docs::kRaw)
      .def("set_stream", &RansDecoder::set_stream, "encoded"_a,
           nb::sig("def set_stream(self, encoded: bytes | bytearray) -> None"), docs::kSetStream)
      .def("decode_stream", &RansDecoder::decode_stream, "indexes"_a, "tables"_a,
           nb::sig("def decode_stream(self, indexes: Ints, tables: CdfTables) "
                   "-> list[int] | NDArray[numpy.int32]"),
           docs::kDecodeStream)
      .def("decode_stream", &RansDecoder::decode_stream_raw, "indexes"_a, "cdfs"_a,
           "cdfs_sizes"_a, "offsets"_a,
           nb::sig("def decode_stream(self, indexes: Ints, cdfs: IntRows, cdfs_sizes: Ints, "
                   "offsets: Ints) -> list[int] | NDArray[numpy.int32]"),
           docs::kRaw)
      .def_prop_ro("finished", &RansDecoder::finished, docs::kFinished);

  m.def("encode_batch", &encode_many, "symbols"_a, "indexes"_a, "tables"_a, nb::kw_only(),
        "threads"_a = 0, "interleave"_a = false,
        nb::sig("def encode_batch(symbols: Array, indexes: Array, "
                "tables: CdfTables, *, threads: int = 0, interleave: bool = False) "
                "-> list[bytes]"),
        docs::kEncodeBatch);
  m.def("decode_batch", &decode_many, "encoded"_a, "indexes"_a, "tables"_a, nb::kw_only(),
        "threads"_a = 0, "check_end"_a = false,
        nb::sig("def decode_batch(encoded: Sequence[bytes | bytearray], indexes: Array, "
                "tables: CdfTables, *, threads: int = 0, check_end: bool = False) "
                "-> NDArray[numpy.int32]"),
        docs::kDecodeBatch);
}

}  // namespace compressai
