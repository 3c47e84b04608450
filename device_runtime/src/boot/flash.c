/* Bounds and alignment of every access to the flash, in one place for all drivers. */
#include "tml/flash.h"

#include <stdbool.h>

static bool is_inside(const tml_flash_t *flash, uint32_t offset, uint32_t bytes) {
  return offset <= flash->bytes && bytes <= flash->bytes - offset;
}

tml_status_t tml_flash_read(const tml_flash_t *flash, uint32_t offset, uint8_t *to, uint32_t bytes) {
  if (!is_inside(flash, offset, bytes)) {
    return TML_ERR_FLASH;
  }
  return flash->read(flash->context, offset, to, bytes);
}

tml_status_t tml_flash_write(const tml_flash_t *flash, uint32_t offset, const uint8_t *from, uint32_t bytes) {
  if (!is_inside(flash, offset, bytes) || offset % flash->write_block_bytes != 0 || bytes % flash->write_block_bytes != 0) {
    return TML_ERR_FLASH;
  }
  return flash->write(flash->context, offset, from, bytes);
}

tml_status_t tml_flash_erase(const tml_flash_t *flash, uint32_t offset, uint32_t bytes) {
  if (!is_inside(flash, offset, bytes) || offset % flash->erase_block_bytes != 0 || bytes % flash->erase_block_bytes != 0) {
    return TML_ERR_FLASH;
  }
  for (uint32_t done = 0; done < bytes; done += flash->erase_block_bytes) {
    const tml_status_t status = flash->erase(flash->context, offset + done);
    if (status != TML_OK) {
      return status;
    }
  }
  return TML_OK;
}
