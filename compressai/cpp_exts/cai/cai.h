/* SPDX-License-Identifier: BSD-3-Clause-Clear */
/* Coded images (.cai files) in C, for programs with an engine of their own for networks.
 *
 * The library reads and writes the file, codes the latent, and puts tiles together. Networks are the
 * caller's: a decoder or encoder says which one to run on which arrays, the caller runs it, and asks
 * on. So it fits engines that answer later, too, as those of browsers do. Where the engine answers at
 * once, cai_decode and cai_encode take a callback.
 *
 * What a model is comes from a bundle, one file for each, which `compressai export --bundle` writes;
 * its networks are ONNX graphs. docs/c_api.md has an example.
 *
 * Arrays are float32, channels first: (channels, height, width), row by row. Functions may be called
 * from several threads, each with decoders and encoders of its own; models and files may be shared.
 */
#ifndef COMPRESSAI_CAI_H
#define COMPRESSAI_CAI_H

#include <stddef.h>
#include <stdint.h>

#if defined(__EMSCRIPTEN__)
#include <emscripten.h>
#define CAI_API EMSCRIPTEN_KEEPALIVE
#elif defined(_WIN32)
#define CAI_API
#else
#define CAI_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* What went wrong. cai_error_name has the name of the same error in compressai.bitstream. */
typedef enum cai_status {
  CAI_OK = 0,
  CAI_RUN_NETWORK = 1, /* not an error: run the network, then ask on */
  CAI_INVALID_ARGUMENT = 2,
  CAI_OUT_OF_MEMORY = 3,
  CAI_NETWORK_FAILED = 4, /* the callback said so */
  CAI_BAD_BUNDLE = 5,     /* none, damaged, or of another version */
  CAI_NOT_A_CODED_IMAGE = 10, /* the file begins otherwise */
  CAI_UNSUPPORTED_VERSION = 11, /* of a version, or with features, that are not read here */
  CAI_UNSUPPORTED_FILE = 12,    /* what the model at hand cannot decode */
  CAI_TOO_LARGE = 13,           /* more pixels than max_pixels */
  CAI_DAMAGED = 20,             /* changed in another way than these: */
  CAI_TRUNCATED = 21,
  CAI_CHECKSUM = 22,
  CAI_IMPOSSIBLE_HEADER = 23,
  CAI_WRONG_WEIGHTS = 30, /* made with other weights than the model's */
  CAI_DESYNC = 31         /* intact, but networks computed something else here */
} cai_status;

/* "ChecksumError" and so on; never null. */
CAI_API const char* cai_error_name(cai_status status);
/* A sentence on the last error in this thread; valid until the next call that fails in it. */
CAI_API const char* cai_message(void);

/* -- files --------------------------------------------------------------------------------- */

typedef struct cai_file cai_file;

typedef struct cai_info {
  uint64_t width, height;           /* of the image, pixels */
  uint64_t tile_size, tile_overlap; /* 0: one tile */
  uint64_t tiles;
  double quality; /* of the weights in the zoo; -1: they are not from there */
  const char* model;
  const char* mode;        /* "L", "LA", "RGB" or "RGBA" */
  const char* source_mode; /* of the image's source, as Pillow calls it */
  const uint8_t* alpha;    /* alpha plane, an 8-bit greyscale PNG file; null if there is none */
  size_t alpha_size;
  const uint8_t* icc; /* ICC profile of the colours; null: sRGB */
  size_t icc_size;
  const uint8_t* exif; /* null if there is none */
  size_t exif_size;
  int32_t metric; /* 0: mse, 1: ms-ssim, 255: unknown */
  int32_t random_weights, sync_safe, has_hashes;
  uint8_t fingerprint[8]; /* of the weights */
} cai_info;

/* Reads a file of version 2 and checks all its sums; the bytes are copied. On success, cai_close
 * the file. */
CAI_API cai_status cai_open(const uint8_t* bytes, size_t size, cai_file** file);
/* What it says; valid until it is closed. */
CAI_API const cai_info* cai_file_info(const cai_file* file);
CAI_API void cai_close(cai_file* file);

/* -- models -------------------------------------------------------------------------------- */

typedef struct cai_model cai_model;

typedef struct cai_model_info {
  double quality; /* as in cai_info; of variable rate, the one that is taken if none is chosen */
  /* Qualities to choose from; of one rate, both are `quality`. Of models with levels, which files tell
   * by whole numbers, only those are there. */
  double lowest, highest;
  const char* model;      /* its name in files */
  int32_t metric;
  int32_t random_weights;
  int32_t multiple;      /* sides of a network's image are multiples of this */
  int32_t networks;
  uint8_t fingerprint[8];
} cai_model_info;

/* Reads a bundle and checks its hashes; the bytes are copied. On success, cai_model_close the model,
 * after all that use it. */
CAI_API cai_status cai_model_open(const uint8_t* bundle, size_t size, cai_model** model);
/* What it says; valid until it is closed. */
CAI_API const cai_model_info* cai_model_get_info(const cai_model* model);
/* Name and ONNX graph of each network, by number from 0; valid until the model is closed. */
CAI_API cai_status cai_model_network(const cai_model* model, int32_t number, const char** name,
                                     const uint8_t** graph, size_t* size);
CAI_API void cai_model_close(cai_model* model);

/* -- networks ------------------------------------------------------------------------------ */

typedef struct cai_array {
  const char* name; /* of the input or output in the graph */
  int32_t channels, height, width;
  float* data;
} cai_array;

/* A network to run: inputs, and where its outputs go. Valid until the next call on the decoder or
 * encoder that gave it. */
typedef struct cai_call {
  const char* network;
  int32_t number; /* of the network, see cai_model_network */
  int32_t inputs, outputs;
  const cai_array* input;
  const cai_array* output;
} cai_call;

/* Runs a network; returns 0, or anything else if it failed. */
typedef int (*cai_network)(void* user, const cai_call* call);

/* -- decoding ------------------------------------------------------------------------------ */

typedef struct cai_decoder cai_decoder;

typedef struct cai_region {
  uint64_t x, y, width, height; /* pixels */
} cai_region;

/* Decodes an image, or the region of it if that is not null, of which padded tiles have at most
 * max_pixels pixels (0: 2^27). File and model must outlive the decoder. */
CAI_API cai_status cai_decoder_new(const cai_model* model, const cai_file* file,
                                   const cai_region* region, uint64_t max_pixels,
                                   cai_decoder** decoder);
/* The next network to run; CAI_OK once the image is there. After an error, every call gives it. */
CAI_API cai_status cai_decoder_next(cai_decoder* decoder, const cai_call** call);
/* 8-bit samples, row by row: 1 channel for greyscale, else 3. Alpha is left to the caller. Null
 * until the image is there; valid until the decoder is freed. */
CAI_API const uint8_t* cai_decoder_pixels(const cai_decoder* decoder, uint32_t* width,
                                          uint32_t* height, uint32_t* channels);
/* Of tiles to decode, those that are decoded and their number, for progress. */
CAI_API void cai_decoder_progress(const cai_decoder* decoder, uint64_t* done, uint64_t* tiles);
/* The hash of the latent that was decoded last, as the file holds it; zeros before. */
CAI_API void cai_decoder_hash(const cai_decoder* decoder, uint8_t hash[8]);
CAI_API void cai_decoder_free(cai_decoder* decoder);

typedef struct cai_image {
  uint32_t width, height, channels;
  uint8_t* pixels;
} cai_image;

/* All of that in one call. On success, cai_image_free the image. */
CAI_API cai_status cai_decode(const cai_model* model, const uint8_t* bytes, size_t size,
                              cai_network run, void* user, cai_image* image);
CAI_API void cai_image_free(cai_image* image);

/* -- encoding ------------------------------------------------------------------------------ */

typedef struct cai_encoder cai_encoder;

/* All zeros will do. */
typedef struct cai_encoding {
  const char* source_mode;          /* null: the mode */
  uint32_t tile_size, tile_overlap; /* multiple of the model's, and up to half; 0: one tile */
  float tolerance;                  /* of synchrony, see docs/synchrony.md; 0: the model's */
  const uint8_t* alpha; /* as in cai_info */
  size_t alpha_size;
  const uint8_t* icc;
  size_t icc_size;
  const uint8_t* exif;
  size_t exif_size;
  const double* quality; /* lowest ... highest of the model; null: its own */
} cai_encoding;

/* Codes an image, synchronised and with hashes. `channels` is 1 or 3, as of cai_decoder_pixels.
 * Pixels are copied; the model must outlive the encoder. */
CAI_API cai_status cai_encoder_new(const cai_model* model, const uint8_t* pixels, uint32_t width,
                                   uint32_t height, uint32_t channels,
                                   const cai_encoding* encoding, cai_encoder** encoder);
CAI_API cai_status cai_encoder_next(cai_encoder* encoder, const cai_call** call);
/* The file; null until it is there. Valid until the encoder is freed. */
CAI_API const uint8_t* cai_encoder_bytes(const cai_encoder* encoder, size_t* size);
CAI_API void cai_encoder_progress(const cai_encoder* encoder, uint64_t* done, uint64_t* tiles);
CAI_API void cai_encoder_free(cai_encoder* encoder);

#ifdef __cplusplus
}
#endif

#endif /* COMPRESSAI_CAI_H */
