/* tml/requant.h against the same rounding by division, at random and at the edges. */
#include "tml/requant.h"
#include "tml_test.h"

static const int32_t edges[] = {0, 1, -1, 2, -2, 3, -3, 127, -128, (1 << 30) - 1, 1 << 30, (1 << 30) + 1, -(1 << 30),
                                INT32_MAX - 1, INT32_MAX, INT32_MIN + 1, INT32_MIN};
enum { EDGES = sizeof edges / sizeof edges[0] };

int main(void) {
  for (int32_t shift = -31; shift <= 31; shift++) {
    for (int i = 0; i < EDGES; i++) {
      for (int j = 0; j < EDGES; j++) {
        if (edges[j] >= 0) {
          CHECK_EQUAL(tml_requantize(edges[i], edges[j], shift), slow_requantize(edges[i], edges[j], shift));
        }
      }
    }
  }
  for (int i = 0; i < 1000000; i++) {
    const int32_t x = (int32_t)random_u32(), multiplier = (int32_t)(random_u32() >> 1), shift = random_between(-31, 31);
    CHECK_EQUAL(tml_requantize(x, multiplier, shift), slow_requantize(x, multiplier, shift));
  }
  CHECK_EQUAL(tml_to_s8(INT32_MAX, 127, -128, 127), 127);
  CHECK_EQUAL(tml_to_s8(INT32_MIN, -128, -128, 127), -128);
  CHECK_EQUAL(tml_to_s8(5, -3, -128, 1), 1);
  return 0;
}
