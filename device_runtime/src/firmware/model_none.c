/* The factory image's model: none. A zero ABI hash lets the boot stage start it without weights. */
#include <stddef.h>

#include "tml/model.h"

static tml_status_t invoke(const uint8_t *weights, uint8_t *arena) {
  (void)weights;
  (void)arena;
  return TML_ERR_NO_MODEL;
}

const tml_model_t tml_model = {.inputs = NULL, .outputs = NULL, .invoke = invoke};
