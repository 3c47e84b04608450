/* MEAN against the formula, and against the true mean. */
#include "tml/kernels.h"
#include "tml_test.h"

static void by_hand(void) {
  /* Means over the middle axis of [1][4][2]: (1+2+3+4)/4 = 2.5, away from zero 3; (-4-4-4-4)/4 = -4. */
  const int8_t in[] = {1, -4, 2, -4, 3, -4, 4, -4};
  const tml_mean_shape_t s = {1, 4, 2};
  const tml_mean_quant_t q = {.multiplier = 1 << 30, .shift = -1}; /* 1/4 */
  int8_t out[2];
  tml_mean_s8(&s, &q, in, out);
  CHECK_EQUAL(out[0], 3);
  CHECK_EQUAL(out[1], -4);
}

static void at_random(void) {
  const tml_mean_shape_t s = {(uint32_t)random_between(1, 4), (uint32_t)random_between(1, 60), (uint32_t)random_between(1, 9)};
  const int32_t bits = 31 - __builtin_clz(s.reduced);
  const tml_mean_quant_t q = {random_s8(), random_s8(), (int32_t)((INT64_C(1) << (30 + bits)) / s.reduced), 1 - bits};
  const size_t in_bytes = (size_t)s.outer * s.reduced * s.inner, out_bytes = (size_t)s.outer * s.inner;
  int8_t *in = exact_buffer(in_bytes), *out = guarded(out_bytes);
  random_fill(in, in_bytes);
  tml_mean_s8(&s, &q, in, out);
  for (uint32_t o = 0; o < s.outer; o++) {
    for (uint32_t i = 0; i < s.inner; i++) {
      int32_t sum = 0;
      for (uint32_t r = 0; r < s.reduced; r++) {
        sum += in[(o * s.reduced + r) * s.inner + i] - q.input_zero_point;
      }
      const int8_t found = out[o * s.inner + i];
      CHECK_EQUAL(found, clamp(slow_requantize(sum, q.multiplier, q.shift) + q.output_zero_point, -128, 127));
      /* Rounded to quarters at worst before it is rounded to integers: half and a quarter away at most. */
      const double truth = (double)sum / s.reduced + q.output_zero_point;
      CHECK(found == -128 || found == 127 || (truth - found < 0.76 && found - truth < 0.76));
    }
  }
  free(in);
  check_guards(out, out_bytes);
}

int main(void) {
  by_hand();
  for (int i = 0; i < 1000; i++) {
    at_random();
  }
  return 0;
}
