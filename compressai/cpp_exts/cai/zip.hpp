// SPDX-License-Identifier: BSD-3-Clause-Clear
// Zip archives (APPNOTE.TXT of PKWARE) whose entries are stored as they are.
#pragma once

#include <map>
#include <string>

#include "fields.hpp"

namespace compressai::cai {

// The entries by name, which point into `archive`. Throws Failure (CAI_BAD_BUNDLE).
std::map<std::string, Bytes> read_zip(Bytes archive);

}  // namespace compressai::cai
