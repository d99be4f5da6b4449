/* Load an artifact, run it once on numbers that depend on nothing, and print each output with a checksum (FNV-1a).
 *
 *     cc run_artifact.c -Ibackends/runtime/include -lpenstock_runtime -o run_artifact
 *     ./run_artifact unet.penstock
 */
#include <penstock/runtime.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failed(const char* what) {
  fprintf(stderr, "%s: %s\n", what, penstock_error());
  return 1;
}

/* 0, 1/16, 2/16, … 15/16, 0, … as float32; zero bytes for every other dtype. */
static void* make_input(const penstock_tensor* tensor) {
  void* data = calloc(1, tensor->bytes ? tensor->bytes : 1);
  if (data && strcmp(tensor->dtype, "float32") == 0)
    for (size_t i = 0; i < tensor->bytes / sizeof(float); ++i) ((float*)data)[i] = (float)(i % 16) / 16;
  return data;
}

int main(int count, char** arguments) {
  penstock_model* model;
  if (count != 2) return fprintf(stderr, "usage: run_artifact OUT.penstock\n"), 2;
  if (penstock_load(arguments[1], NULL, &model) != PENSTOCK_OK) return failed(arguments[1]);

  size_t inputs = penstock_input_count(model), outputs = penstock_output_count(model);
  void** in = calloc(inputs + 1, sizeof *in);
  void** out = calloc(outputs + 1, sizeof *out);
  penstock_tensor tensor;
  for (size_t i = 0; i < inputs; ++i) {
    penstock_input(model, i, &tensor);
    in[i] = make_input(&tensor);
  }
  for (size_t i = 0; i < outputs; ++i) {
    penstock_output(model, i, &tensor);
    out[i] = malloc(tensor.bytes ? tensor.bytes : 1);
  }
  int status = penstock_run(model, (const void* const*)in, out) == PENSTOCK_OK ? 0 : failed("running");
  for (size_t i = 0; i < outputs && status == 0; ++i) {
    unsigned long long sum = 14695981039346656037ull;
    penstock_output(model, i, &tensor);
    for (size_t at = 0; at < tensor.bytes; ++at) sum = (sum ^ ((unsigned char*)out[i])[at]) * 1099511628211ull;
    printf("%s %s %zu bytes %016llx\n", tensor.name, tensor.dtype, tensor.bytes, sum);
  }
  for (size_t i = 0; i < inputs; ++i) free(in[i]);
  for (size_t i = 0; i < outputs; ++i) free(out[i]);
  free(in), free(out);
  penstock_free(model);
  return status;
}
