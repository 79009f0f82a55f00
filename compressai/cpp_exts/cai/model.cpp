// SPDX-License-Identifier: BSD-3-Clause-Clear
#include "model.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "../rans_format.hpp"
#include "zip.hpp"

namespace compressai::cai {
namespace {

constexpr const char* kManifest = "bundle.json";
constexpr const char* kFormat = "compressai-bundle";
// Of bundles, and of those whose rates are levels.
constexpr int kVersion = 1, kLevelsVersion = 2;
constexpr std::int64_t kMostChannels = 1 << 16;

[[noreturn]] void bad(const std::string& what) {
  throw Failure(CAI_BAD_BUNDLE, "the bundle is damaged: " + what);
}

std::size_t size_of(const Json& told, std::int64_t least, std::int64_t most) {
  return static_cast<std::size_t>(told.integer(least, most));
}

// The content of an entry of "networks" or "arrays", whose hash fits.
Bytes content_of(const std::string& name, const Json& told,
                 const std::map<std::string, Bytes>& entries) {
  const auto found = entries.find(told["file"].text());
  if (found == entries.end() || sha256(found->second) != told["sha256"].text()) {
    bad(name + " is not what the manifest says");
  }
  return found->second;
}

std::vector<std::int32_t> words(Bytes content) {
  std::vector<std::int32_t> found(content.size / 4);
  for (std::size_t i = 0; i < found.size(); ++i) {
    found[i] = static_cast<std::int32_t>(load_word(content.data + 4 * i));
  }
  return found;
}

}  // namespace

Model::Model(Bytes bundle) : bytes_(bundle.data, bundle.data + bundle.size) {
  const std::map<std::string, Bytes> entries = read_zip({bytes_.data(), bytes_.size()});
  const auto found = entries.find(kManifest);
  if (found == entries.end()) throw Failure(CAI_BAD_BUNDLE, "this is no bundle");
  const Json manifest = Json::parse(found->second);
  if (manifest["format"].text() != kFormat) throw Failure(CAI_BAD_BUNDLE, "this is no bundle");
  const std::int64_t version = manifest["version"].integer(0, 1 << 30);
  if (version != kVersion && version != kLevelsVersion) {
    throw Failure(CAI_BAD_BUNDLE, "the bundle has version " + std::to_string(version) +
                                      ", this program reads " + std::to_string(kVersion) + " and " +
                                      std::to_string(kLevelsVersion) +
                                      ": export it again, or update");
  }
  name = manifest["model"].text();
  if (!manifest["quality"].is_null()) {
    quality = static_cast<double>(manifest["quality"].integer(1, 255));
  }
  if (!manifest["metric"].is_null()) metric = manifest["metric"].text() == "mse" ? 0 : 1;
  random_weights = manifest["random_weights"].boolean();
  exact = manifest["exact"].boolean();
  multiple = size_of(manifest["multiple"], 1, 1 << 16);
  strings = size_of(manifest["strings"], 1, 1 << 16);
  if (const Json* told = manifest.find("bytes_a_pixel"); told != nullptr) {
    bytes_a_pixel = told->number();
  }
  const std::string& print = manifest["fingerprints"]["2"].text();
  for (std::size_t i = 0; i < sizeof fingerprint && print.size() == 16; ++i) {
    fingerprint[i] =
        static_cast<std::uint8_t>(std::strtoul(print.substr(2 * i, 2).c_str(), nullptr, 16));
  }
  if (!manifest["grid"].is_null()) {
    grid = manifest["grid"]["step"].number();
    slope = manifest["grid"]["slope"].number();
    tolerance = manifest["grid"]["tolerance"].number();
  }
  read_networks(manifest, entries);
  read_tables(manifest);
  if (const Json* told = manifest.find("rate"); told != nullptr && !told->is_null()) {
    rates = std::make_unique<Rates>(*told, floats_);
    quality = rates->usual();
  }
  for (const auto& [key, told] : manifest["latents"].members()) {
    define(key, size_of(told["channels"], 1, kMostChannels),
           size_of(told["stride"], 1, static_cast<std::int64_t>(multiple)));
  }
  image = value("x");
  for (const Json& told : manifest["analysis"].items()) analysis.push_back(read_step(told));
  for (const Json& told : manifest["coding"].items()) coding.push_back(read_step(told));
  for (const Json& told : manifest["synthesis"].items()) synthesis.push_back(read_step(told));
  latent = value("y_hat");
  result = value("x_hat");
  if (values[image].channels != 3 || values[result].channels != 3 ||
      values[image].stride != 1 || values[result].stride != 1) {
    bad("images must have three channels");
  }
  std::vector<const Step*> encoder, decoder;
  for (const Step& one : analysis) encoder.push_back(&one);
  for (const Step& one : coding) {
    encoder.push_back(&one);
    decoder.push_back(&one);
  }
  for (const Step& one : synthesis) decoder.push_back(&one);
  check(encoder, {image});
  check(decoder, {});
}

std::size_t Model::value(const std::string& wanted) const {
  const auto found = names_.find(wanted);
  if (found == names_.end()) bad("nothing gives " + wanted);
  return found->second;
}

std::size_t Model::define(const std::string& wanted, std::size_t channels, std::size_t stride) {
  if (multiple % stride != 0) bad("sides of " + wanted + " do not fit those of an image");
  const auto [place, is_new] = names_.emplace(wanted, values.size());
  if (is_new) values.push_back({wanted, channels, stride});
  const Value& known = values[place->second];
  if (known.channels != channels || known.stride != stride) bad("sizes of " + wanted + " differ");
  return place->second;
}

void Model::read_networks(const Json& manifest, const std::map<std::string, Bytes>& entries) {
  for (const auto& [key, told] : manifest["networks"].members()) {
    Network network{key, content_of(key, told, entries), {}, {}};
    for (const char* part : {"inputs", "outputs"}) {
      for (const Json& one : told[part].items()) {
        const std::size_t number =
            define(one["name"].text(), size_of(one["channels"], 1, kMostChannels),
                   size_of(one["stride"], 1, static_cast<std::int64_t>(multiple)));
        (part[0] == 'i' ? network.inputs : network.outputs).push_back(number);
      }
    }
    if (network.inputs.empty() || network.outputs.empty()) bad(key + " lacks inputs or outputs");
    network_names_[key] = networks.size();
    networks.push_back(std::move(network));
  }
  for (const auto& [key, told] : manifest["arrays"].members()) {
    std::vector<std::int32_t> found = words(content_of(key, told, entries));
    std::size_t size = 1;
    for (const Json& side : told["shape"].items()) size *= size_of(side, 0, 1 << 24);
    if (size != found.size()) bad("the size of " + key + " does not fit");
    if (told["dtype"].text() == "float32") {
      std::vector<float>& floats = floats_[key];
      floats.resize(size);
      std::memcpy(floats.data(), found.data(), size * sizeof(float));
    } else {
      integers_[key] = std::move(found);
    }
  }
}

std::vector<float> Model::floats(const Json& wanted) const {
  const auto found = floats_.find(wanted.text());
  if (found == floats_.end()) bad("it has no array " + wanted.text());
  return found->second;
}

std::vector<std::int32_t> Model::integers(const Json& wanted) const {
  const auto found = integers_.find(wanted.text());
  if (found == integers_.end()) bad("it has no array " + wanted.text());
  return found->second;
}

void Model::read_tables(const Json& manifest) {
  for (const auto& [key, told] : manifest["tables"].members()) {
    const std::vector<std::int32_t> cdfs = integers(told["cdfs"]), lengths = integers(told["lengths"]),
                                    offsets = integers(told["offsets"]);
    const std::size_t rows = lengths.size();
    if (rows == 0 || offsets.size() != rows || cdfs.size() % rows != 0) bad("tables do not fit");
    std::vector<CdfRow> parts;
    for (std::size_t i = 0; i < rows; ++i) {
      parts.push_back({cdfs.data() + i * (cdfs.size() / rows), cdfs.size() / rows});
    }
    Table table{CdfTables(parts, lengths.data(), offsets.data()), nullptr, nullptr, {}, 0};
    if (told.find("scales") != nullptr) {
      const std::vector<float> scales = floats(told["scales"]);
      table.level_rows = integers(told["levels"]);
      table.first = size_of(told["first"], 0, static_cast<std::int64_t>(rows) - 1);
      std::vector<float> levels;
      for (const std::int32_t row : table.level_rows) {
        if (row < 0 || static_cast<std::size_t>(row) >= rows) bad("a level has no table");
        levels.push_back(scales.at(static_cast<std::size_t>(row)));
      }
      if (scales.size() != rows) bad("scales and tables do not fit");
      table.scales = std::make_unique<ScaleLevels>(scales.data(), scales.size());
      table.levels = std::make_unique<ScaleLevels>(levels.data(), levels.size());
    }
    table_names_[key] = tables.size();
    tables.push_back(std::move(table));
  }
}

Step Model::read_step(const Json& told) {
  Step step{};
  const std::string& op = told["op"].text();
  const auto network_of = [&](const Json& wanted) {
    const auto found = network_names_.find(wanted.text());
    if (found == network_names_.end()) bad("it has no network " + wanted.text());
    return found->second;
  };
  if (op == "run") {
    step.op = Step::Op::kRun;
    step.network = network_of(told["network"]);
    return step;
  }
  if (op == "concatenate") {
    step.op = Step::Op::kConcatenate;
    std::size_t channels = 0;
    for (const Json& one : told["inputs"].items()) {
      step.inputs.push_back(value(one.text()));
      channels += values[step.inputs.back()].channels;
    }
    if (step.inputs.empty()) bad("nothing is concatenated");
    step.output = step.fine = define(told["output"].text(), channels, values[step.inputs[0]].stride);
    return step;
  }
  if (op == "scale" && rates != nullptr) {
    step.op = Step::Op::kScale;
    step.inputs.push_back(value(told["input"].text()));
    const Value scaled = values[step.inputs[0]];
    step.factor = rates->number_of(told["factor"].text());
    if (rates->channels(step.factor) != scaled.channels) bad("a factor does not fit " + scaled.name);
    if (const Json* limit = told.find("limit"); limit != nullptr && !limit->is_null()) {
      step.limit = static_cast<float>(limit->number());
    }
    step.output = step.fine = define(told["output"].text(), scaled.channels, scaled.stride);
    return step;
  }
  if (op != "factorized" && op != "gaussian") {
    throw Failure(CAI_BAD_BUNDLE, "the bundle has a step " + op + ", which is not known: update");
  }
  step.latent = value(told["latent"].text());
  const Value whole = values[step.latent];
  step.end = whole.channels;
  step.string = size_of(told["string"], 0, static_cast<std::int64_t>(strings) - 1);
  const auto table = table_names_.find(told["table"].text());
  if (table == table_names_.end()) bad("it has no table " + told["table"].text());
  step.table = table->second;
  if (op == "factorized") {
    step.op = Step::Op::kFactorized;
    step.medians = floats(told["medians"]);
    if (step.medians.size() != whole.channels ||
        tables[step.table].cdfs.rows() != whole.channels) {
      bad("the tables of " + whole.name + " do not fit");
    }
    step.output = step.fine = define(told["output"].text(), whole.channels, whole.stride);
    return step;
  }
  step.op = Step::Op::kGaussian;
  if (const Json& range = told["channels"]; !range.is_null()) {
    if (range.items().size() != 2) bad("a range of channels has two ends");
    step.end = size_of(range.items()[1], 1, static_cast<std::int64_t>(whole.channels));
    step.begin = size_of(range.items()[0], 0, static_cast<std::int64_t>(step.end) - 1);
  }
  step.scales = value(told["scales"].text());
  step.has_means = !told["means"].is_null();
  step.means = step.has_means ? value(told["means"].text()) : step.scales;
  step.corrects = !told["correction"].is_null();
  if (const Json* width = told.find("dead_zone")) {
    step.dead_zone = static_cast<float>(width->number());
    if (!(step.dead_zone >= 0 && std::isfinite(step.dead_zone))) bad("a dead zone is negative");
  }
  if (step.corrects) step.network = network_of(told["correction"]);
  if (!told["gains"].is_null()) {
    step.scale_gains = floats(told["gains"]["scales"]);
    if (!told["gains"]["values"].is_null()) step.value_gains = floats(told["gains"]["values"]);
  }
  step.output = define(told["output"].text(), step.end - step.begin, whole.stride);
  step.fine = define(told["fine"].text(), step.end - step.begin, whole.stride);
  check_gaussian(step);
  return step;
}

void Model::check_gaussian(const Step& step) const {
  const std::size_t channels = step.end - step.begin;
  const auto fits = [&](std::size_t number) {
    return values[number].channels == channels &&
           values[number].stride == values[step.latent].stride;
  };
  if (tables[step.table].scales == nullptr) bad("a table has no scales");
  if (!fits(step.scales) || !fits(step.means)) bad("scales or means do not fit their latent");
  if (step.corrects) {
    const Network& network = networks[step.network];
    if (network.inputs.size() != 2 || network.outputs.size() != 1 || !fits(network.inputs[1]) ||
        !fits(network.outputs[0])) {
      bad("a correction does not fit its latent");
    }
  }
  const bool moves = step.has_means || step.corrects;
  const std::size_t gains = channels * (rates == nullptr ? 1 : rates->nodes());
  if (!exact && !(step.value_gains.size() == (moves ? gains : 0) &&
                  step.scale_gains.size() == gains)) {
    bad("gains do not fit their latent");
  }
}

// Whatever a step takes was given before.
void Model::check(const std::vector<const Step*>& steps, std::vector<std::size_t> known) const {
  const auto need = [&](std::size_t number) {
    if (std::find(known.begin(), known.end(), number) == known.end()) {
      bad("nothing gives " + values[number].name + " in time");
    }
  };
  const bool encodes = !known.empty();
  for (const Step* one : steps) {
    const Step& step = *one;
    if (step.op == Step::Op::kRun) {
      for (const std::size_t number : networks[step.network].inputs) need(number);
      for (const std::size_t number : networks[step.network].outputs) known.push_back(number);
      continue;
    }
    for (const std::size_t number : step.inputs) {
      need(number);
      if (values[number].stride != values[step.output].stride) bad("arrays do not fit");
    }
    const bool codes = step.op == Step::Op::kFactorized || step.op == Step::Op::kGaussian;
    if (codes && encodes) need(step.latent);
    if (step.op == Step::Op::kGaussian) {
      need(step.scales);
      need(step.means);
      if (step.corrects) need(networks[step.network].inputs[0]);
    }
    known.push_back(step.output);
    known.push_back(step.fine);
  }
  need(encodes ? latent : result);
}

}  // namespace compressai::cai
