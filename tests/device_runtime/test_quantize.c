/* QUANTIZE of floats: halves away from zero, saturation, and what is no number. */
#include <math.h>

#include "tml/kernels.h"
#include "tml_test.h"

int main(void) {
  const tml_scale_t half = {0.5f, 10};
  const float in[] = {0.0f, 0.24f, 0.25f, -0.25f, 0.74f, -0.76f, 1e30f, -1e30f, INFINITY, -INFINITY, NAN, 58.4f, 0.24999999f};
  const int8_t expected[] = {10, 10, 11, 9, 11, 8, 127, -128, 127, -128, 10, 127, 10};
  enum { COUNT = sizeof expected };
  int8_t *out = guarded(COUNT);
  tml_quantize_f32_s8(COUNT, &half, in, out);
  for (int i = 0; i < COUNT; i++) {
    CHECK_EQUAL(out[i], expected[i]);
  }
  check_guards(out, COUNT);
  for (int i = 0; i < 100000; i++) {
    const tml_scale_t q = {(float)random_between(1, 1000) / 256.0f, random_s8()};
    const float x = (float)random_between(-(1 << 20), 1 << 20) / 1024.0f;
    int8_t y = 0;
    tml_quantize_f32_s8(1, &q, &x, &y);
    CHECK_EQUAL(y, clamp((int64_t)roundf(x / q.scale) + q.zero_point, -128, 127));
  }
  return 0;
}
