/* Flash that is plain memory: on emulated boards, RAM that a file keeps. It behaves as NOR flash: a write only clears bits. */
#include <string.h>

#include "tml/port.h"
#include "tml_class.h"

static uint8_t *at(uint32_t offset) { return (uint8_t *)(uintptr_t)(TML_FLASH_ADDRESS + offset); }

static tml_status_t memory_read(void *context, uint32_t offset, uint8_t *to, uint32_t bytes) {
  (void)context;
  memcpy(to, at(offset), bytes);
  return TML_OK;
}

static tml_status_t memory_write(void *context, uint32_t offset, const uint8_t *from, uint32_t bytes) {
  (void)context;
  uint8_t *const to = at(offset);
  for (uint32_t i = 0; i < bytes; i++) {
    to[i] = (uint8_t)(to[i] & from[i]);
  }
  return memcmp(to, from, bytes) == 0 ? TML_OK : TML_ERR_FLASH;
}

static tml_status_t memory_erase(void *context, uint32_t offset) {
  (void)context;
  memset(at(offset), TML_FLASH_ERASED, TML_ERASE_BLOCK_BYTES);
  return TML_OK;
}

const tml_flash_t tml_port_flash = {
    .bytes = TML_FLASH_BYTES,
    .erase_block_bytes = TML_ERASE_BLOCK_BYTES,
    .write_block_bytes = TML_WRITE_BLOCK_BYTES,
    .read = memory_read,
    .write = memory_write,
    .erase = memory_erase,
};

const uint8_t *tml_port_weights(void) { return at(TML_WEIGHTS_PRIMARY + TML_IMAGE_HEADER_BYTES); }
