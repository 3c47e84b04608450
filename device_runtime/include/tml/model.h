/* The one interface between generated code and whoever runs it.
 *
 * Generated code defines `tml_model`. Its caller owns every byte: an arena of `arena_bytes`, aligned to 16, and the weights blob
 * (in flash, aligned to 16, `weights_bytes` long). Inputs are written into the arena before a run and may be overwritten by it;
 * outputs are read from the arena after it.
 */
#ifndef TML_MODEL_H
#define TML_MODEL_H

#include <stdint.h>

#include "tml/status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TML_ABI_HASH_BYTES 32u
#define TML_WEIGHTS_MAGIC 0x574C4D54u /* "TMLW", little-endian */
#define TML_WEIGHTS_VERSION 1u
#define TML_WEIGHTS_HEADER_BYTES 48u

typedef struct {
  uint32_t arena_offset; /* bytes from the start of the arena */
  uint32_t bytes;
} tml_tensor_io_t;

typedef struct {
  uint8_t abi_hash[TML_ABI_HASH_BYTES]; /* all zero: no model (factory image) */
  uint32_t arena_bytes;
  uint32_t weights_bytes; /* of the whole blob, header included */
  uint8_t input_count;
  uint8_t output_count;
  const tml_tensor_io_t *inputs;
  const tml_tensor_io_t *outputs;
  /* `weights` has passed tml_model_check. */
  tml_status_t (*invoke)(const uint8_t *weights, uint8_t *arena);
} tml_model_t;

extern const tml_model_t tml_model;

/* Is `weights` (available bytes: `weights_bytes`) a blob that `model` can run with? Reads nothing beyond it. */
tml_status_t tml_model_check(const tml_model_t *model, const uint8_t *weights, uint32_t weights_bytes);

#ifdef __cplusplus
}
#endif
#endif
