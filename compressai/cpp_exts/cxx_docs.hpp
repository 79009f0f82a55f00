// SPDX-License-Identifier: BSD-3-Clause-Clear
// Docstrings of compressai._CXX. The stub file _CXX.pyi repeats them for editors,
// tests/test_stubs.py compares both.
#pragma once

namespace compressai::docs {

constexpr const char* kModule =
    R"(Quantisation of probabilities to the integer tables of compressai.ans, in native code.)";

constexpr const char* kQuantizeOne = R"(Cumulative frequencies of a probability mass function.

The probabilities are rounded to multiples of ``2**-precision``, scaled to the sum
``2**precision``, and every symbol left without frequency takes one unit from the rarest
symbol that has more than one (the first of equals). The result is part of the stream
format: it is the same integers on every machine.

Args:
    pmf: float32 (n,), finite and at least 0; an array or CPU tensor, or a sequence of
        numbers.
    precision: 0..31, bits of the total frequency. The coder uses 16.

Returns:
    n + 1 integers, strictly increasing from 0 to ``2**precision``.

Raises:
    TypeError: an argument is not numeric.
    ValueError: an element is negative, NaN or infinite; every element rounds to 0; there
        are more than ``2**precision`` elements; the rounded elements sum to ``2**32`` or
        more; the precision is not in 0..31.
)";

constexpr const char* kQuantizeRows = R"(Cumulative frequencies of many probability mass functions.

Row ``r`` of the result is ``pmf_to_quantized_cdf`` of ``pmfs[r, :lengths[r]]`` followed by
``tail_masses[r]``, the probability of the escape; the rest of the row is 0.

Args:
    pmfs: float32 array or CPU tensor (K, n), finite and at least 0.
    tail_masses: float32 (K,) or (K, 1), finite and at least 0.
    lengths: int32 (K,), 0..n, the number of valid columns in each row.
    precision: 0..30, bits of the total frequency. The coder uses 16.

Returns:
    numpy int32 (K, n + 2). Row ``r`` has ``lengths[r] + 2`` valid entries.

Raises:
    TypeError: an argument is not numeric or has the wrong number of dimensions.
    ValueError: as in ``pmf_to_quantized_cdf`` (the message names the first row that
        failed), or a length is out of range, or the numbers of rows differ.
)";

}  // namespace compressai::docs
