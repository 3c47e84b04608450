/* DEQUANTIZE of all 256 values: the product of scale and integer, rounded once. */
#include "tml/kernels.h"
#include "tml_test.h"

int main(void) {
  int8_t in[256];
  for (int i = 0; i < 256; i++) {
    in[i] = (int8_t)(i - 128);
  }
  for (int round = 0; round < 200; round++) {
    const tml_scale_t q = {(float)random_between(1, 1 << 24) / (float)random_between(1, 1 << 24), random_s8()};
    float *out = (float *)(void *)guarded(sizeof(float) * 256);
    tml_dequantize_s8_f32(256, &q, in, out);
    for (int i = 0; i < 256; i++) {
      CHECK(out[i] == (float)((double)q.scale * (in[i] - q.zero_point)));
    }
    check_guards((int8_t *)out, sizeof(float) * 256);
  }
  return 0;
}
