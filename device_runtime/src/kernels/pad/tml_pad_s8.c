/* PAD and PADV2: runs the body that is best on this CPU. */
#include "../kernels_internal.h"

void tml_pad_s8(const tml_pad_shape_t *shape, int8_t value, const int8_t *in, int8_t *out) {
  tml_pad_s8_ref(shape, value, in, out);
}
