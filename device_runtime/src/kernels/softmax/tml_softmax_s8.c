/* SOFTMAX: checks the contract, then runs the body that is best on this CPU. */
#include "../kernels_internal.h"
#include "tml/assert.h"

void tml_softmax_s8(const tml_softmax_shape_t *shape, const tml_softmax_quant_t *quant, const int8_t *in, int8_t *out) {
  TML_ASSERT(shape->depth > 0 && shape->depth <= 4095);
  TML_ASSERT(quant->left_shift >= 0 && quant->diff_min <= 0);
  tml_softmax_s8_ref(shape, quant, in, out);
}
