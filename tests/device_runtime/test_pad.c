/* PAD: each output is the input's element, or the value. */
#include "tml/kernels.h"
#include "tml_test.h"

static void at_random(void) {
  tml_pad_shape_t s;
  size_t in_count = 1, out_count = 1;
  uint32_t out_dims[4];
  for (int i = 0; i < 4; i++) {
    s.dims[i] = (uint32_t)random_between(1, 5);
    s.before[i] = (uint32_t)random_between(0, 3);
    s.after[i] = (uint32_t)random_between(0, 3);
    out_dims[i] = s.before[i] + s.dims[i] + s.after[i];
    in_count *= s.dims[i];
    out_count *= out_dims[i];
  }
  const int8_t value = random_s8();
  int8_t *in = exact_buffer(in_count), *out = guarded(out_count);
  random_fill(in, in_count);
  tml_pad_s8(&s, value, in, out);
  for (size_t at = 0; at < out_count; at++) {
    size_t rest = at, in_at = 0, in_stride = 1;
    bool inside = true;
    for (int i = 3; i >= 0; i--) {
      const uint32_t position = (uint32_t)(rest % out_dims[i]);
      rest /= out_dims[i];
      inside = inside && position >= s.before[i] && position < s.before[i] + s.dims[i];
      in_at += inside ? (position - s.before[i]) * in_stride : 0;
      in_stride *= s.dims[i];
    }
    CHECK_EQUAL(out[at], inside ? in[in_at] : value);
  }
  free(in);
  check_guards(out, out_count);
}

int main(void) {
  for (int i = 0; i < 500; i++) {
    at_random();
  }
  return 0;
}
