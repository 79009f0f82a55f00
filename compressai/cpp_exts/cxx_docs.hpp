// SPDX-License-Identifier: BSD-3-Clause-Clear
// Docstrings of compressai._CXX, which the stub for editors takes from the module.
#pragma once

namespace compressai::docs {

constexpr const char* kModule =
    R"(Integers that encoder and decoder share, in native code: the tables of compressai.ans out of
probabilities, and roundings of scales and values that small differences do not change.)";

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

constexpr const char* kScaleLevels = R"(Ascending scales, those of the rows of a table, prepared for looking them up.

Args:
    levels: float32 (n,), finite, positive and ascending.

Raises:
    TypeError: the levels are not numbers.
    ValueError: there are none, or they break a rule above.
)";

constexpr const char* kTableRows = R"(Table row of each scale: the first whose level is not smaller, else the last.

Args:
    scales: float32 array or CPU tensor, 1 or 2 dimensions; NaN counts as the largest.
    levels: scales of the rows.
    first: no row below it; one of those of ``levels``.

Returns:
    numpy int32 (n,).

Raises:
    TypeError: ``scales`` is not of numbers.
    ValueError: ``first`` is not a row.
)";

constexpr const char* kLatentSymbols = R"(Symbols and table rows of a latent, in one pass.

Args:
    values: float32 array or CPU tensor (N, n).
    means: float32 (N, n), subtracted before rounding (halves to even); or ``None``.
    scales: float32 (N, n), see :func:`table_rows`.
    levels: scales of the rows.
    first: no row below it; one of those of ``levels``.

Returns:
    ``(symbols, rows)``, each numpy int32 (N, n).

Raises:
    TypeError: an argument is not of numbers.
    ValueError: shapes differ, ``first`` is not a row, or a symbol is no int32.
)";

constexpr const char* kDeadZoneSymbols = R"(Symbols of a latent, fewer of which are large than by rounding.

Between two integers ``n`` and ``n + 1``, a residual becomes the upper one only if it lies above
their middle by more than ``dead_zone * (2 n + 1) / (scale^2 + 1/12)``: about the bits that the
upper one takes more under a Gaussian, in units of what an error costs.

Args:
    values: float32 array or CPU tensor (N, n).
    means: float32 (N, n), subtracted before; or ``None``.
    scales: float32 (N, n).
    dead_zone: 0 or more; 0 rounds.

Returns:
    numpy int32 (N, n).

Raises:
    ValueError: shapes differ, ``dead_zone`` is negative or not finite, or a symbol is no int32.
)";

constexpr const char* kPlanSync = R"(Choose shifts at which no rounding is in doubt.

Every threshold of a rounding may be shifted by up to a quarter of its cell. Element ``i`` (in
memory order) belongs to block ``i % blocks``, whose number is a power of two; the elements of a
block share a shift. Shifts are numbered in the order of preference, from none (0) on.

Args:
    scales: float32 array or CPU tensor (C, P).
    values: float32 (C, P), to be rounded to multiples of ``step``; or ``None``.
    levels: what scales are rounded to.
    step: finite and positive.
    scale_guards, value_guards: float32 (C,), how far apart the two machines may be; finite
        and at least 0. ``value_guards`` is not looked at without ``values``.
    slope: guards grow with the magnitude of an element, by ``1 + slope * magnitude``;
        finite and at least 0.
    max_blocks: there are at most so many blocks; at least 1.

Returns:
    ``(ranks, scale_exceptions, value_exceptions)``, each numpy int32: the number of each
    block's shift, and the elements that even this shift leaves in doubt, ascending.

Raises:
    TypeError: an argument is not of numbers, or ``scales`` has not two dimensions.
    ValueError: shapes do not fit, an element is not finite, a value is beyond 2**30 steps,
        there are 2**31 elements, or an argument breaks a rule above.
)";

constexpr const char* kRoundScales = R"(Round scales to levels.

Args:
    scales: float32 array or CPU tensor of any values, 1 or 2 dimensions.
    levels: what they are rounded to.
    ranks: int32, the shift of each block; as many as a power of two, in 0..127.

Returns:
    numpy int32 (n,), the numbers of the levels.

Raises:
    TypeError: an argument is not of numbers.
    ValueError: ``ranks`` breaks a rule above.
)";

constexpr const char* kRoundValues = R"(Round values to multiples of a step.

Args:
    values: float32 array or CPU tensor, 1 or 2 dimensions.
    step: finite and positive.
    ranks: int32, the shift of each block; as many as a power of two, in 0..127.

Returns:
    numpy int32 (n,), the number of steps of each value.

Raises:
    TypeError: an argument is not of numbers.
    ValueError: ``step`` or ``ranks`` breaks a rule above, or a value is not finite or beyond
        2**30 steps.
)";

}  // namespace compressai::docs
