/* Runs the model once on an input of zeros and prints the bytes of its outputs. */
#include <stdio.h>
#include <string.h>

#include "tml/model.h"
#include "tml_weights.h"

static _Alignas(16) uint8_t arena[TML_ARENA_BYTES];

int main(void) {
  if (tml_model_check(&tml_model, tml_weights, TML_WEIGHTS_BYTES) != TML_OK) return 1;
  for (uint8_t i = 0; i < tml_model.input_count; i++) {
    memset(arena + tml_model.inputs[i].arena_offset, 0, tml_model.inputs[i].bytes);
  }
  if (tml_model.invoke(tml_weights, arena) != TML_OK) return 1;
  for (uint8_t i = 0; i < tml_model.output_count; i++) {
    const tml_tensor_io_t *output = &tml_model.outputs[i];
    for (uint32_t at = 0; at < output->bytes; at++) {
      printf("%d%c", (int8_t)arena[output->arena_offset + at], at + 1 < output->bytes ? ' ' : '\n');
    }
  }
  return 0;
}
