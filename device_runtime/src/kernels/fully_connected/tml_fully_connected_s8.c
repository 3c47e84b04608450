/* FULLY_CONNECTED: checks the contract, then runs the body that is best on this CPU. */
#include "../kernels_internal.h"
#include "tml/assert.h"

void tml_fully_connected_s8(const tml_fully_connected_shape_t *shape, const tml_quant_t *quant, tml_channels_t channels,
                            const int8_t *filter, const int8_t *in, int8_t *out) {
  TML_ASSERT(quant->activation_min >= INT8_MIN && quant->activation_min <= quant->activation_max);
  TML_ASSERT(quant->activation_max <= INT8_MAX);
  tml_fully_connected_s8_ref(shape, quant, channels, filter, in, out);
}
