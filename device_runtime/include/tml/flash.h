/* Flash as boot stage and firmware see it: erase blocks, write blocks, offsets from the start of the device's flash.
 *
 * A driver is this struct. Every offset and length is checked by `tml_flash_*` before the driver sees it, so drivers do not
 * check again. After a power cut in the middle of a write or an erase, the blocks it touched hold anything.
 */
#ifndef TML_FLASH_H
#define TML_FLASH_H

#include <stdint.h>

#include "tml/status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TML_FLASH_ERASED 0xFFu
#define TML_FLASH_WRITE_BLOCK_MAX 64u

typedef struct {
  uint32_t bytes;
  uint32_t erase_block_bytes;
  uint32_t write_block_bytes; /* power of two, at most TML_FLASH_WRITE_BLOCK_MAX */
  void *context;              /* handed to each function */
  tml_status_t (*read)(void *context, uint32_t offset, uint8_t *to, uint32_t bytes);
  /* Offset and length are multiples of the write block, the bytes there are erased. */
  tml_status_t (*write)(void *context, uint32_t offset, const uint8_t *from, uint32_t bytes);
  /* One erase block. */
  tml_status_t (*erase)(void *context, uint32_t offset);
} tml_flash_t;

/* TML_ERR_FLASH where the range is not inside of the flash, is not aligned, or the driver fails. */
tml_status_t tml_flash_read(const tml_flash_t *flash, uint32_t offset, uint8_t *to, uint32_t bytes);
tml_status_t tml_flash_write(const tml_flash_t *flash, uint32_t offset, const uint8_t *from, uint32_t bytes);
tml_status_t tml_flash_erase(const tml_flash_t *flash, uint32_t offset, uint32_t bytes);

#ifdef __cplusplus
}
#endif
#endif
