/* A device as a process: `boot --flash FILE --link PATH [--hardware-id ID] [--die-with-parent]`.
 *
 * Boot stage and firmware are two programs that replace each other in one process: boot starts the code image from memory, a
 * reset starts boot again from the descriptor it left. --state carries descriptors and counters from one to the next. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "posix_port.h"
#include "tml/port.h"
#include "tml_class.h"

#define STACK_PAINT 0xA5A5A5A5u
#define STACK_PAINTED_WORDS 16384u /* 64 KiB: more is not seen */

posix_device_t posix_device = {.hardware_id = "", .master = -1, .slave = -1, .boot = -1};

static uintptr_t painted; /* lowest painted address of the stack */

extern char **environ;

_Noreturn void posix_fail(const char *what, const char *which) {
  fprintf(stderr, "tinyml device: %s: %s\n", what, which);
  exit(1);
}

_Noreturn void posix_exec(int fd) {
  char state[64];
  snprintf(state, sizeof state, "%d,%d,%d,%lu", posix_device.master, posix_device.slave, posix_device.boot,
           (unsigned long)posix_device.boots);
  const char *arguments[] = {"tinyml-device",      "--flash",
                             posix_device.flash_path, "--link",
                             posix_device.link_path,  "--hardware-id",
                             posix_device.hardware_id, "--state",
                             state,                posix_device.die_with_parent ? "--die-with-parent" : NULL,
                             NULL};
  fexecve(fd, (char *const *)arguments, environ);
  posix_fail("cannot start the next program", strerror(errno));
}

static void write_all(int fd, const uint8_t *bytes, size_t count) {
  while (count > 0) {
    const ssize_t written = write(fd, bytes, count);
    if (written <= 0) {
      posix_fail("cannot copy the code image into memory", strerror(errno));
    }
    bytes += written;
    count -= (size_t)written;
  }
}

_Noreturn void tml_port_start(const tml_flash_map_t *map, const tml_image_t *code) {
  const int fd = memfd_create("tinyml-code", MFD_CLOEXEC);
  if (fd < 0) {
    posix_fail("cannot make room for the code image", strerror(errno));
  }
  uint8_t chunk[4096];
  const uint32_t start = map->slot_offset[TML_IMAGE_CODE][TML_SLOT_PRIMARY] + TML_IMAGE_HEADER_BYTES;
  for (uint32_t at = 0; at < code->payload_bytes;) {
    const uint32_t left = code->payload_bytes - at;
    const uint32_t bytes = left < sizeof chunk ? left : (uint32_t)sizeof chunk;
    if (tml_flash_read(map->flash, start + at, chunk, bytes) != TML_OK) {
      posix_fail("cannot read the code image", posix_device.flash_path);
    }
    write_all(fd, chunk, bytes);
    at += bytes;
  }
  posix_device.boots++;
  posix_exec(fd);
}

_Noreturn void tml_port_halt(const char *why) { posix_fail(why, posix_device.flash_path); }

uint8_t *tml_port_arena(uint32_t *bytes) {
  static _Alignas(16) uint8_t arena[TML_RAM_BYTES];
  *bytes = sizeof arena;
  return arena;
}

uint64_t tml_port_ticks(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint32_t tml_port_ticks_hz(void) { return 1000000000u; }
const char *tml_port_hardware_id(void) { return posix_device.hardware_id; }
uint32_t tml_port_boots(void) { return posix_device.boots; }

/* Fill the stack below the caller. Only the address is kept, to look at later. */
static __attribute__((noinline)) void paint_stack(void) {
  volatile uint32_t words[STACK_PAINTED_WORDS];
  for (size_t i = 0; i < STACK_PAINTED_WORDS; i++) {
    words[i] = STACK_PAINT;
  }
  painted = (uintptr_t)&words[0];
}

uint32_t tml_port_stack_high_water(void) {
  const volatile uint32_t *at = (const volatile uint32_t *)painted; /* NOLINT: looks below the stack on purpose */
  uint32_t clean = 0;
  while (clean < STACK_PAINTED_WORDS && at[clean] == STACK_PAINT) {
    clean++;
  }
  return (STACK_PAINTED_WORDS - clean) * (uint32_t)sizeof at[0];
}

static void read_state(const char *text) {
  unsigned long boots;
  if (sscanf(text, "%d,%d,%d,%lu", &posix_device.master, &posix_device.slave, &posix_device.boot, &boots) != 4) {
    posix_fail("--state is for resets only", text);
  }
  posix_device.boots = (uint32_t)boots;
}

static void read_arguments(int count, char **arguments) {
  for (int i = 1; i < count; i++) {
    const char *name = arguments[i];
    if (strcmp(name, "--die-with-parent") == 0) {
      posix_device.die_with_parent = true;
      continue;
    }
    if (i + 1 == count) {
      posix_fail("usage: --flash FILE --link PATH [--hardware-id ID] [--die-with-parent]; no value for", name);
    }
    const char *value = arguments[++i];
    if (strcmp(name, "--flash") == 0) {
      posix_device.flash_path = value;
    } else if (strcmp(name, "--link") == 0) {
      posix_device.link_path = value;
    } else if (strcmp(name, "--hardware-id") == 0) {
      posix_device.hardware_id = value;
    } else if (strcmp(name, "--state") == 0) {
      read_state(value);
    } else {
      posix_fail("usage: --flash FILE --link PATH [--hardware-id ID] [--die-with-parent]; unknown argument", name);
    }
  }
  if (posix_device.flash_path == NULL || posix_device.link_path == NULL) {
    posix_fail("usage: --flash FILE --link PATH [--hardware-id ID] [--die-with-parent]", "--flash and --link are needed");
  }
}

int main(int count, char **arguments) {
  read_arguments(count, arguments);
  if (posix_device.die_with_parent) {
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
  }
  if (posix_device.boot < 0) {
    posix_device.boot = open("/proc/self/exe", O_RDONLY); /* inherited: a reset starts it again */
    if (posix_device.boot < 0) {
      posix_fail("cannot open the boot stage's own executable", strerror(errno));
    }
  }
  posix_flash_open(posix_device.flash_path);
  posix_line_open();
  paint_stack();
  tml_main();
}
