/* SOFTMAX against exp() of the C library: at most one step of 1/256 away; bit-exactness is tested against TFLite Micro in Python. */
#include <math.h>

#include "tml/kernels.h"
#include "tml_test.h"

static const double input_scale = 0.125;
static const tml_softmax_quant_t quant = {.multiplier = 1 << 30, .left_shift = 24, .diff_min = -124};
/* 0.125 * 2^26 = 2^23 = (2^30 / 2^31) * 2^24; 31 * 2^26 / 2^24 = 124 */

static void check_row(int8_t *x, uint32_t depth) {
  const tml_softmax_shape_t shape = {1, depth};
  int8_t *out = guarded(depth);
  tml_softmax_s8(&shape, &quant, x, out);
  double sum = 0;
  for (uint32_t i = 0; i < depth; i++) {
    sum += exp(input_scale * x[i]);
  }
  for (uint32_t i = 0; i < depth; i++) {
    const double truth = clamp((int64_t)floor(256 * exp(input_scale * x[i]) / sum + 0.5), 0, 255) - 128.0;
    CHECK(fabs(out[i] - truth) <= 1.0);
  }
  tml_softmax_s8(&shape, &quant, x, x); /* in place */
  CHECK(memcmp(x, out, depth) == 0);
  check_guards(out, depth);
}

int main(void) {
  for (int i = 0; i < 2000; i++) {
    const uint32_t depth = (uint32_t)random_between(1, 40);
    int8_t *x = exact_buffer(depth);
    random_fill(x, depth);
    check_row(x, depth);
    free(x);
  }
  /* Two equal ones share: 128 of 256 each. A far smaller one gets nothing. One alone gets all there is: 255. */
  int8_t pair[] = {5, 5, -128};
  const tml_softmax_shape_t three = {1, 3}, one = {1, 1};
  tml_softmax_s8(&three, &quant, pair, pair);
  CHECK_EQUAL(pair[0], 0);
  CHECK_EQUAL(pair[1], 0);
  CHECK_EQUAL(pair[2], -128);
  int8_t alone[] = {-128};
  tml_softmax_s8(&one, &quant, alone, alone);
  CHECK_EQUAL(alone[0], 127);
  /* The longest row that the contract allows, all equal: each gets less than half a step. */
  enum { LONGEST = 4095 };
  int8_t *flat = exact_buffer(LONGEST);
  memset(flat, 7, LONGEST);
  check_row(flat, LONGEST);
  /* One stands out by 8.75: the many others, exp(-8.75) each, still have a third together. */
  memset(flat, 7, LONGEST);
  flat[0] = 7 + 70;
  check_row(flat, LONGEST);
  free(flat);
  return 0;
}
