// SPDX-License-Identifier: BSD-3-Clause-Clear
// Docstrings of compressai.ans, which the stub for editors takes from the module.
#pragma once

namespace compressai::docs {

constexpr const char* kModule = R"(Range asymmetric numeral systems (rANS): lossless coding of integers, in native code.

Symbols are coded with cumulative frequency tables of 16 bits precision. The last slot of a
table is its escape: values outside of the table are coded behind it, so every int32 can be
coded with every table. The stream is a 64-bit state followed by 32-bit little-endian
words; it has no header, no length and no checksum.

Integers are given as int32 numpy arrays or CPU tensors (used in place, fastest; numpy
arrays have the smaller cost per call), as arrays or tensors of another integer dtype, or
as lists, tuples and ranges. Longer calls release the interpreter lock. All arguments are
checked: a wrong type or an integer beyond int32 is a TypeError, a wrong value a
ValueError. A stream may come from anywhere: one that is damaged gives wrong symbols or a
ValueError, nothing worse.

One object may be used by several threads; its calls are then carried out one after
another.

Source: Duda 2013, "Asymmetric numeral systems", arXiv:1311.2540.
)";

constexpr const char* kCdfTables = R"(Cumulative frequency tables, checked once and held in native memory, ready for coding.

Give it to the coders in place of (cdfs, cdfs_sizes, offsets) whenever tables are used more
than once: preparing takes about 0.1 ms for the 64 Gaussian tables. Immutable; may be
shared by encoders, decoders and threads. ``len()`` is the number of rows. Can be copied
and pickled.

Row ``r`` with ``n = cdfs_sizes[r]`` has ``n - 1`` slots. Slot ``s < n - 2`` stands for the
value ``offsets[r] + s`` and has the probability ``(cdfs[r][s + 1] - cdfs[r][s]) / 65536``;
slot ``n - 2`` is the escape.

Args:
    cdfs: int32, one row per table: a matrix (rows, entries) or a list of rows of any
        lengths. ``cdfs[r][:n]`` starts with 0, ends with 65536 and increases strictly;
        entries behind it are padding and not read.
    cdfs_sizes: int32, one per row, each at least 2.
    offsets: int32, one per row; the values of a row must stay within int32.

Raises:
    TypeError: an argument is not of integers within int32.
    ValueError: a table breaks a rule above, or the numbers of rows differ.
)";

constexpr const char* kNbytes = "Bytes of native memory in use.";

constexpr const char* kRansEncoder = "Encodes a message in one call. Has no state.";

constexpr const char* kEncode = R"(Encode a message.

Args:
    symbols: int32 (n,), the values to code.
    indexes: int32 (n,), the row of the tables for each symbol.
    tables: the prepared tables.

Returns:
    The stream: 8 bytes or more, a multiple of 4.

Raises:
    TypeError: an argument is not of integers within int32.
    ValueError: the lengths differ or an index is not a row of the tables.
)";

constexpr const char* kRaw = "The same with tables that are prepared for this call only, see CdfTables.";

constexpr const char* kBufferedRansEncoder =
    R"(Collects symbols over several calls and encodes them as one message at the end.)";

constexpr const char* kAppend = R"(Append symbols to the message.

Args:
    symbols: int32 (n,), the values to code.
    indexes: int32 (n,), the row of the tables for each symbol.
    tables: the prepared tables; they may be others than in the last call.

Raises:
    TypeError: an argument is not of integers within int32.
    ValueError: the lengths differ or an index is not a row of the tables; nothing is
        appended.
)";

constexpr const char* kFlush = R"(Encode what was appended since the last flush, and forget it.

Args:
    interleave: give long messages the interleaved layout, see ``encode_batch``.

Returns:
    The stream: 8 bytes or more, a multiple of 4. Without symbols it has 8 bytes.
)";

constexpr const char* kRansDecoder = R"(Decodes a message, in one call or in several.

The decoder needs the indexes and tables of the encoder. Arrays and tensors of indexes give
a numpy int32 array, other sequences a list.
)";

constexpr const char* kDecode = R"(Decode a message in one call. Leaves the stream of ``set_stream`` alone.

Args:
    encoded: the stream, bytes or bytearray.
    indexes: int32 (n,), the row of the tables for each symbol; a first part of them will
        do.
    tables: the prepared tables.
    check_end: demand that the message ends with the last index. This finds streams that
        are cut and most that are damaged, but it is no checksum: other digits in an
        escaped value, for example, make another message.

Returns:
    int32 (n,), the symbols: a numpy array if ``indexes`` is an array or a tensor, else a
    list.

Raises:
    TypeError: ``encoded`` is not bytes or bytearray, ``indexes`` not of integers within
        int32.
    ValueError: an index is not a row of the tables; or the stream cannot be one (size,
        state), ends too early, has an escaped value that no encoder writes, or does not
        end (``check_end``).
)";

constexpr const char* kSetStream = R"(Start to decode a stream, of which a copy is kept.

Args:
    encoded: the stream, bytes or bytearray.

Raises:
    TypeError: it is neither.
    ValueError: it cannot be a stream (size, state). The decoder keeps the last one then.
)";

constexpr const char* kDecodeStream = R"(Decode the next symbols of the stream.

Args:
    indexes: int32 (n,), the row of the tables for each symbol.
    tables: the prepared tables; they may be others than in the last call.

Returns:
    int32 (n,), the symbols: a numpy array if ``indexes`` is an array or a tensor, else a
    list.

Raises:
    TypeError: ``indexes`` is not of integers within int32.
    ValueError: there is no stream, an index is not a row of the tables, the stream ends
        too early or has an escaped value that no encoder writes. The position stays as it
        was.
)";

constexpr const char* kFinished = R"(Whether the stream is decoded to its end: all words used, the state back at 2^31.

False after the last symbol means that the stream is damaged, or that it was encoded with
other indexes or tables. True is no proof of the contrary.

Raises:
    ValueError: there is no stream.
)";

constexpr const char* kEncodeBatch = R"(Encode messages of equal length, one per row, on several threads.

Args:
    symbols: int32 array or CPU tensor (B, n).
    indexes: int32 array or CPU tensor (B, n).
    tables: the prepared tables.
    threads: at most so many threads, at least 0; 0 means one per processor. Few symbols
        use fewer.
    interleave: give messages that would take 32768 bytes or more the interleaved layout, which
        decodes faster and takes 28 bytes more at most. Every decoder here knows a stream of it
        by its first state; CompressAI's reads none.

Returns:
    B streams, the same that ``RansEncoder`` gives for each row, unless they are interleaved.

Raises:
    TypeError: an argument is not a matrix of integers within int32.
    ValueError: the shapes differ, or an index is not a row of the tables (the message
        names the first batch item that failed), or ``threads`` is negative.
)";

constexpr const char* kDecodeBatch = R"(Decode messages of equal length on several threads.

Args:
    encoded: B streams, bytes or bytearray.
    indexes: int32 array or CPU tensor (B, n).
    tables: the prepared tables.
    threads: at most so many threads, at least 0; 0 means one per processor. Few symbols
        use fewer.
    check_end: demand that each message ends with its last index.

Returns:
    numpy int32 (B, n), the same symbols that ``RansDecoder`` gives for each row.

Raises:
    TypeError: ``indexes`` is not a matrix of integers within int32, or ``encoded`` not of
        bytes.
    ValueError: as in ``RansDecoder.decode_with_indexes`` (the message names the first
        batch item that failed), or B differs, or ``threads`` is negative.
)";

}  // namespace compressai::docs
