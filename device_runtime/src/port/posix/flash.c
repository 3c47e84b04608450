/* Flash in a file, offset 0 of one is offset 0 of the other. It behaves as NOR flash: a write only clears bits. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "posix_port.h"
#include "tml/port.h"
#include "tml_class.h"

#define LOCK_ATTEMPTS 50
#define LOCK_PAUSE_NS 50000000L

static uint8_t *mapped;

void posix_flash_open(const char *path) {
  const int fd = open(path, O_RDWR | O_CLOEXEC); /* stays open: it holds the lock */
  if (fd < 0) {
    posix_fail("cannot open the flash file (--flash)", path);
  }
  int attempt = 0;
  while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    const struct timespec pause = {0, LOCK_PAUSE_NS};
    if (errno != EWOULDBLOCK || ++attempt == LOCK_ATTEMPTS) {
      posix_fail("another device runs on this flash file", path);
    }
    nanosleep(&pause, NULL);
  }
  struct stat info;
  if (fstat(fd, &info) != 0 || info.st_size < (off_t)TML_FLASH_BYTES) {
    posix_fail("the flash file is shorter than the device class's flash", path);
  }
  void *map = mmap(NULL, TML_FLASH_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (map == MAP_FAILED) {
    posix_fail("cannot map the flash file", path);
  }
  mapped = map;
}

static tml_status_t file_read(void *context, uint32_t offset, uint8_t *to, uint32_t bytes) {
  (void)context;
  memcpy(to, mapped + offset, bytes);
  return TML_OK;
}

static tml_status_t file_write(void *context, uint32_t offset, const uint8_t *from, uint32_t bytes) {
  (void)context;
  uint8_t *const to = mapped + offset;
  for (uint32_t i = 0; i < bytes; i++) {
    to[i] = (uint8_t)(to[i] & from[i]);
  }
  return memcmp(to, from, bytes) == 0 ? TML_OK : TML_ERR_FLASH;
}

static tml_status_t file_erase(void *context, uint32_t offset) {
  (void)context;
  memset(mapped + offset, TML_FLASH_ERASED, TML_ERASE_BLOCK_BYTES);
  return TML_OK;
}

const tml_flash_t tml_port_flash = {
    .bytes = TML_FLASH_BYTES,
    .erase_block_bytes = TML_ERASE_BLOCK_BYTES,
    .write_block_bytes = TML_WRITE_BLOCK_BYTES,
    .read = file_read,
    .write = file_write,
    .erase = file_erase,
};

const uint8_t *tml_port_weights(void) { return mapped + TML_WEIGHTS_PRIMARY + TML_IMAGE_HEADER_BYTES; }
