/* SPDX-License-Identifier: BSD-3-Clause-Clear */
/* decode BUNDLE FILE.cai OUT.ppm RECORDING: a coded image as a PPM or PGM file.
 *
 * The outputs of networks come from a recording: float32, in the order of the calls. A program of yours
 * runs them in run(), with onnxruntime for instance: cai_model_network gives the graphs. */
#include <cai.h>
#include <stdio.h>
#include <stdlib.h>

static unsigned char* read_file(const char* path, size_t* size) {
  FILE* file = fopen(path, "rb");
  unsigned char* bytes = NULL;
  long length = -1;
  if (file != NULL && fseek(file, 0, SEEK_END) == 0) length = ftell(file);
  if (length >= 0 && (bytes = malloc((size_t)length + 1)) != NULL) {
    rewind(file);
    *size = fread(bytes, 1, (size_t)length, file);
  }
  if (file != NULL) fclose(file);
  return bytes;
}

static int run(void* user, const cai_call* call) {
  for (int i = 0; i < call->outputs; ++i) {
    const cai_array* out = &call->output[i];
    size_t count = (size_t)out->channels * (size_t)out->height * (size_t)out->width;
    if (fread(out->data, sizeof(float), count, user) != count) return 1;
  }
  return 0;
}

static int fail(cai_status status) {
  fprintf(stderr, "%s: %s\n", cai_error_name(status), cai_message());
  return 1;
}

int main(int argc, char** argv) {
  size_t bundle_size = 0, file_size = 0, count;
  if (argc != 5) return fprintf(stderr, "usage: decode BUNDLE FILE.cai OUT.ppm RECORDING\n"), 2;
  unsigned char* bundle = read_file(argv[1], &bundle_size);
  unsigned char* bytes = read_file(argv[2], &file_size);
  FILE* recording = fopen(argv[4], "rb");
  if (bundle == NULL || bytes == NULL || recording == NULL) return perror("decode"), 1;

  cai_model* model;
  cai_image image;
  cai_status status = cai_model_open(bundle, bundle_size, &model);
  if (status != CAI_OK) return fail(status);
  status = cai_decode(model, bytes, file_size, run, recording, &image);
  if (status != CAI_OK) return fail(status);

  FILE* out = fopen(argv[3], "wb");
  if (out == NULL) return perror(argv[3]), 1;
  count = (size_t)image.width * image.height * image.channels;
  fprintf(out, "P%d\n%u %u\n255\n", image.channels == 1 ? 5 : 6, image.width, image.height);
  if (fwrite(image.pixels, 1, count, out) != count || fclose(out) != 0) return perror(argv[3]), 1;
  cai_image_free(&image);
  cai_model_close(model);
  return 0;
}
