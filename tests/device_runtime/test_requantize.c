/* RELU family and int8 QUANTIZE against the formula, in place too. */
#include "tml/kernels.h"
#include "tml_test.h"

int main(void) {
  /* Scale 1 to 1/2, zero points 1 and -3, RELU: 2 * (x - 1) - 3, not below -3. */
  const tml_requantize_quant_t relu = {1, -3, 1 << 30, 2, -3, 127};
  const int8_t in[] = {-128, 0, 1, 2, 60, 127}, expected[] = {-3, -3, -3, -1, 115, 127};
  int8_t out[6];
  tml_requantize_s8(6, &relu, in, out);
  for (int i = 0; i < 6; i++) {
    CHECK_EQUAL(out[i], expected[i]);
  }
  for (int i = 0; i < 2000; i++) {
    const tml_requantize_quant_t q = {random_s8(), random_s8(), random_between(1 << 30, INT32_MAX), random_between(-31, 31),
                                      random_between(-128, 0), random_between(0, 127)};
    const uint32_t count = (uint32_t)random_between(0, 40);
    int8_t *x = exact_buffer(count), *y = guarded(count);
    random_fill(x, count);
    tml_requantize_s8(count, &q, x, y);
    for (uint32_t j = 0; j < count; j++) {
      const int64_t scaled = slow_requantize(x[j] - q.input_zero_point, q.multiplier, q.shift);
      CHECK_EQUAL(y[j], clamp(scaled + q.output_zero_point, q.activation_min, q.activation_max));
    }
    tml_requantize_s8(count, &q, x, x);
    CHECK(memcmp(x, y, count) == 0);
    free(x);
    check_guards(y, count);
  }
  return 0;
}
