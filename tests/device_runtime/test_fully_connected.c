/* FULLY_CONNECTED against the formula with zero points not folded. */
#include "windows.h"

static void by_hand(void) {
  /* 1*2 + 2*3 = 8, 1*4 + 2*5 = 14; times two: 16, and 28 cut off at 20. */
  const int8_t in[] = {1, 2}, filter[] = {2, 3, 4, 5}, shift[] = {2, 2};
  const int32_t bias[] = {0, 0}, multiplier[] = {1 << 30, 1 << 30};
  const tml_fully_connected_shape_t s = {1, 2, 2};
  const tml_quant_t q = {0, 0, -128, 20};
  int8_t out[2];
  tml_fully_connected_s8(&s, &q, (tml_channels_t){bias, multiplier, shift}, filter, in, out);
  CHECK_EQUAL(out[0], 16);
  CHECK_EQUAL(out[1], 20);
}

static void at_random(void) {
  const tml_fully_connected_shape_t s = {(uint32_t)random_between(1, 4), (uint32_t)random_between(1, 70),
                                         (uint32_t)random_between(1, 20)};
  const tml_quant_t q = random_quant();
  int8_t *in = exact_buffer(s.rows * s.in_features), *filter = exact_buffer(s.out_features * s.in_features);
  int8_t *out = guarded(s.rows * s.out_features);
  random_fill(in, s.rows * s.in_features);
  random_fill(filter, s.out_features * s.in_features);
  test_channels_t c = random_channels(s.out_features);
  for (uint32_t o = 0; o < s.out_features; o++) {
    int64_t filter_sum = 0;
    for (uint32_t i = 0; i < s.in_features; i++) {
      filter_sum += filter[o * s.in_features + i];
    }
    fold(&c, o, q.input_zero_point, filter_sum);
  }
  tml_fully_connected_s8(&s, &q, as_channels(&c), filter, in, out);
  for (uint32_t row = 0; row < s.rows; row++) {
    for (uint32_t o = 0; o < s.out_features; o++) {
      int64_t sum = 0;
      for (uint32_t i = 0; i < s.in_features; i++) {
        sum += filter[o * s.in_features + i] * (in[row * s.in_features + i] - q.input_zero_point);
      }
      CHECK_EQUAL(out[row * s.out_features + o], expected_output(sum, &c, o, &q));
    }
  }
  free(in);
  free(filter);
  free_channels(&c);
  check_guards(out, s.rows * s.out_features);
}

int main(void) {
  by_hand();
  for (int i = 0; i < 500; i++) {
    at_random();
  }
  return 0;
}
