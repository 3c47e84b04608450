/* MEAN: checks the contract, then runs the body that is best on this CPU. */
#include "../kernels_internal.h"
#include "tml/assert.h"

void tml_mean_s8(const tml_mean_shape_t *shape, const tml_mean_quant_t *quant, const int8_t *in, int8_t *out) {
  TML_ASSERT(shape->reduced > 0 && shape->reduced <= (UINT32_C(1) << 23));
  tml_mean_s8_ref(shape, quant, in, out);
}
