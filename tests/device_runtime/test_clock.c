/* port/common/clock.h: intervals over the end of the counter. */
#include "../../device_runtime/src/port/common/clock.h"

#include "tml_test.h"

int main(void) {
  tml_clock_t clock = {0};
  const uint64_t before = tml_clock_ticks(&clock, UINT32_MAX - 99u);
  CHECK_EQUAL(tml_clock_ticks(&clock, UINT32_MAX), before + 99);
  CHECK_EQUAL(tml_clock_ticks(&clock, 50u), before + 150);
  CHECK_EQUAL(tml_clock_ticks(&clock, 50u), before + 150);
  CHECK_EQUAL(tml_clock_ticks(&clock, 49u), before + 149 + (INT64_C(1) << 32));
  return 0;
}
