// SPDX-License-Identifier: BSD-3-Clause-Clear
// cai.h: handles, and errors as numbers.
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <new>
#include <stdexcept>
#include <string>

#include "objects.hpp"

using namespace compressai::cai;

// Where web/src/core.js looks for them.
static_assert(sizeof(void*) != 4 ||
                  (offsetof(cai_info, tiles) == 32 && offsetof(cai_info, model) == 48 &&
                   offsetof(cai_info, exif) == 76 && offsetof(cai_info, metric) == 84 &&
                   offsetof(cai_info, fingerprint) == 100 &&
                   offsetof(cai_model_info, networks) == 40 &&
                   offsetof(cai_model_info, fingerprint) == 44 && offsetof(cai_call, output) == 20 &&
                   sizeof(cai_array) == 20 && offsetof(cai_encoding, alpha) == 16 &&
                   offsetof(cai_encoding, quality) == 40 && sizeof(cai_encoding) == 44),
              "structures have changed");

namespace {

std::string& message() {
  thread_local std::string text;
  return text;
}

// Runs what may fail. `otherwise` is what an std::invalid_argument of the coder means there.
template <typename Work>
cai_status guarded(cai_status otherwise, const Work& work) {
  try {
    return work();
  } catch (const Failure& failure) {
    message() = failure.what();
    return failure.status();
  } catch (const std::bad_alloc&) {
    message() = "there is not enough memory";
    return CAI_OUT_OF_MEMORY;
  } catch (const std::length_error&) {
    message() = "there is not enough memory";
    return CAI_OUT_OF_MEMORY;
  } catch (const std::exception& error) {
    message() = error.what();
    return otherwise;
  }
}

template <typename... Pointers>
void check_pointers(const Pointers*... pointers) {
  const bool missing = (... || (pointers == nullptr));
  if (missing) throw Failure(CAI_INVALID_ARGUMENT, "a pointer is null");
}

// The next network, or the end; an error ends it for good.
template <typename Coder>
cai_status next_of(Coder* coder, const cai_call** call, cai_status otherwise) {
  const cai_status found = guarded(otherwise, [&] {
    check_pointers(coder, call);
    if (coder->failed != CAI_OK) throw Failure(coder->failed, coder->why);
    if (!coder->next()) return CAI_OK;
    *call = &coder->call;
    return CAI_RUN_NETWORK;
  });
  if (found > CAI_RUN_NETWORK && coder != nullptr) {
    coder->failed = found;
    coder->why = message();
  }
  return found;
}

}  // namespace

cai_model::cai_model(Bytes bundle) : model(bundle) {
  const bool varies = model.rates != nullptr;
  info = {model.quality, varies ? model.rates->low() : model.quality,
          varies ? model.rates->high() : model.quality, model.name.c_str(), model.metric, model.random_weights,
          static_cast<std::int32_t>(model.multiple), static_cast<std::int32_t>(model.networks.size()),
          {}};
  std::memcpy(info.fingerprint, model.fingerprint, sizeof info.fingerprint);
}

extern "C" {

const char* cai_error_name(cai_status status) {
  switch (status) {
    case CAI_OK: return "";
    case CAI_RUN_NETWORK: return "";
    case CAI_INVALID_ARGUMENT: return "ValueError";
    case CAI_OUT_OF_MEMORY: return "MemoryError";
    case CAI_NETWORK_FAILED: return "RuntimeError";
    case CAI_BAD_BUNDLE: return "BundleError";
    case CAI_NOT_A_CODED_IMAGE: return "NotACodedImageError";
    case CAI_UNSUPPORTED_VERSION: return "UnsupportedVersionError";
    case CAI_UNSUPPORTED_FILE: return "UnsupportedFileError";
    case CAI_TOO_LARGE: return "TooLargeError";
    case CAI_DAMAGED: return "DamagedFileError";
    case CAI_TRUNCATED: return "TruncatedFileError";
    case CAI_CHECKSUM: return "ChecksumError";
    case CAI_IMPOSSIBLE_HEADER: return "ImpossibleHeaderError";
    case CAI_WRONG_WEIGHTS: return "WrongWeightsError";
    case CAI_DESYNC: return "DesyncError";
  }
  return "unknown";
}

const char* cai_message(void) { return message().c_str(); }

cai_status cai_open(const uint8_t* bytes, size_t size, cai_file** file) {
  return guarded(CAI_DAMAGED, [&] {
    check_pointers(file);
    if (size != 0) check_pointers(bytes);
    *file = new cai_file({bytes, size});
    return CAI_OK;
  });
}

const cai_info* cai_file_info(const cai_file* file) { return file == nullptr ? nullptr : &file->info; }

void cai_close(cai_file* file) { delete file; }

cai_status cai_model_open(const uint8_t* bundle, size_t size, cai_model** model) {
  return guarded(CAI_BAD_BUNDLE, [&] {
    check_pointers(bundle, model);
    *model = new cai_model(Bytes{bundle, size});
    return CAI_OK;
  });
}

const cai_model_info* cai_model_get_info(const cai_model* model) {
  return model == nullptr ? nullptr : &model->info;
}

cai_status cai_model_network(const cai_model* model, int32_t number, const char** name,
                             const uint8_t** graph, size_t* size) {
  return guarded(CAI_INVALID_ARGUMENT, [&] {
    check_pointers(model, name, graph, size);
    if (number < 0 || number >= model->info.networks) {
      throw Failure(CAI_INVALID_ARGUMENT, "the model has no such network");
    }
    const Network& network = model->model.networks[static_cast<std::size_t>(number)];
    *name = network.name.c_str();
    *graph = network.graph.data;
    *size = network.graph.size;
    return CAI_OK;
  });
}

void cai_model_close(cai_model* model) { delete model; }

cai_status cai_decoder_new(const cai_model* model, const cai_file* file, const cai_region* region,
                           uint64_t max_pixels, cai_decoder** decoder) {
  return guarded(CAI_INVALID_ARGUMENT, [&] {
    check_pointers(model, file, decoder);
    *decoder = new cai_decoder(*model, *file, region, max_pixels);
    return CAI_OK;
  });
}

cai_status cai_decoder_next(cai_decoder* decoder, const cai_call** call) {
  return next_of(decoder, call, CAI_DESYNC);
}

const uint8_t* cai_decoder_pixels(const cai_decoder* decoder, uint32_t* width, uint32_t* height,
                                  uint32_t* channels) {
  if (decoder == nullptr || decoder->done < decoder->needed.size()) return nullptr;
  *width = static_cast<uint32_t>(decoder->wanted.width);
  *height = static_cast<uint32_t>(decoder->wanted.height);
  *channels = decoder->container.mode[0] == 'L' ? 1 : 3;
  return decoder->pixels.data();
}

void cai_decoder_progress(const cai_decoder* decoder, uint64_t* done, uint64_t* tiles) {
  *done = decoder->done;
  *tiles = decoder->needed.size();
}

void cai_decoder_hash(const cai_decoder* decoder, uint8_t hash[8]) {
  std::memcpy(hash, decoder->hash, sizeof decoder->hash);
}

void cai_decoder_free(cai_decoder* decoder) { delete decoder; }

cai_status cai_decode(const cai_model* model, const uint8_t* bytes, size_t size, cai_network run,
                      void* user, cai_image* image) {
  return guarded(CAI_DESYNC, [&] {
    check_pointers(model, image);
    if (size != 0) check_pointers(bytes);
    const cai_file file({bytes, size});
    cai_decoder decoder(*model, file, nullptr, 0);
    for (const cai_call* call = nullptr;;) {
      const cai_status status = cai_decoder_next(&decoder, &call);
      if (status == CAI_OK) break;
      if (status != CAI_RUN_NETWORK) return status;
      if (run(user, call) != 0) {
        throw Failure(CAI_NETWORK_FAILED, std::string("the network ") + call->network + " failed");
      }
    }
    cai_decoder_pixels(&decoder, &image->width, &image->height, &image->channels);
    image->pixels = static_cast<uint8_t*>(std::malloc(decoder.pixels.size()));
    if (image->pixels == nullptr) throw std::bad_alloc();
    std::memcpy(image->pixels, decoder.pixels.data(), decoder.pixels.size());
    return CAI_OK;
  });
}

void cai_image_free(cai_image* image) {
  std::free(image->pixels);
  image->pixels = nullptr;
}

cai_status cai_encoder_new(const cai_model* model, const uint8_t* pixels, uint32_t width,
                           uint32_t height, uint32_t channels, const cai_encoding* encoding,
                           cai_encoder** encoder) {
  return guarded(CAI_INVALID_ARGUMENT, [&] {
    check_pointers(model, pixels, encoding, encoder);
    const Bytes samples{pixels, size_t{width} * height * channels};
    *encoder = new cai_encoder(*model, samples, width, height, channels, *encoding);
    return CAI_OK;
  });
}

cai_status cai_encoder_next(cai_encoder* encoder, const cai_call** call) {
  return next_of(encoder, call, CAI_INVALID_ARGUMENT);
}

const uint8_t* cai_encoder_bytes(const cai_encoder* encoder, size_t* size) {
  if (encoder == nullptr || encoder->file.empty()) return nullptr;
  *size = encoder->file.size();
  return encoder->file.data();
}

void cai_encoder_progress(const cai_encoder* encoder, uint64_t* done, uint64_t* tiles) {
  *done = encoder->done;
  *tiles = encoder->container.tiles.size();
}

void cai_encoder_free(cai_encoder* encoder) { delete encoder; }

}  // extern "C"
