/* The device class's flash map, from the numbers that the build writes into tml_class.h. */
#include "tml/port.h"
#include "tml_class.h"

_Static_assert((TML_WRITE_BLOCK_BYTES & (TML_WRITE_BLOCK_BYTES - 1u)) == 0, "the write block is a power of two");
_Static_assert(TML_WRITE_BLOCK_BYTES <= TML_FLASH_WRITE_BLOCK_MAX, "the write block is at most TML_FLASH_WRITE_BLOCK_MAX");
_Static_assert(TML_ERASE_BLOCK_BYTES % TML_WRITE_BLOCK_BYTES == 0, "an erase block is whole write blocks");

const tml_flash_map_t *tml_port_flash_map(void) {
  static const tml_flash_map_t map = {
      .flash = &tml_port_flash,
      .device_class = TML_DEVICE_CLASS,
      .slot_offset = {{TML_CODE_PRIMARY, TML_CODE_SECONDARY}, {TML_WEIGHTS_PRIMARY, TML_WEIGHTS_SECONDARY}},
      .slot_bytes = {TML_CODE_BYTES, TML_WEIGHTS_BYTES},
  };
  return &map;
}
