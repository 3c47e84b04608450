/* Do weights and code belong together? Layout of the blob's header: docs/decisions/001-spine-contracts.md */
#include "tml/model.h"

#include <string.h>

enum { MAGIC = 0, VERSION = 4, HEADER_BYTES = 6, TOTAL_BYTES = 8, ABI_HASH = 16 };

static uint32_t little_endian(const uint8_t *at, uint32_t bytes) {
  uint32_t value = 0;
  for (uint32_t i = 0; i < bytes; i++) {
    value |= (uint32_t)at[i] << (8u * i);
  }
  return value;
}

tml_status_t tml_model_check(const tml_model_t *model, const uint8_t *weights, uint32_t weights_bytes) {
  if (model->input_count == 0) {
    return TML_ERR_NO_MODEL;
  }
  if (weights_bytes < TML_WEIGHTS_HEADER_BYTES) {
    return TML_ERR_SIZE;
  }
  if (little_endian(weights + MAGIC, 4) != TML_WEIGHTS_MAGIC) {
    return TML_ERR_MAGIC;
  }
  if (little_endian(weights + VERSION, 2) != TML_WEIGHTS_VERSION ||
      little_endian(weights + HEADER_BYTES, 2) < TML_WEIGHTS_HEADER_BYTES) {
    return TML_ERR_VERSION;
  }
  if (memcmp(weights + ABI_HASH, model->abi_hash, TML_ABI_HASH_BYTES) != 0) {
    return TML_ERR_ABI;
  }
  const uint32_t total = little_endian(weights + TOTAL_BYTES, 4);
  if (total < model->weights_bytes || weights_bytes < total) {
    return TML_ERR_SIZE;
  }
  return TML_OK;
}
