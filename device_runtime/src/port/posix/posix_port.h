/* Between the files of the posix port. */
#ifndef TML_POSIX_PORT_H
#define TML_POSIX_PORT_H

#include <stdbool.h>
#include <stdint.h>

/* What the command line says, and what a reset hands on to the next program. */
typedef struct {
  const char *flash_path;
  const char *link_path;
  const char *hardware_id;
  bool die_with_parent;
  int master, slave; /* of the pseudo terminal; -1: none yet */
  int boot;          /* the boot stage's executable; -1: this is it, not yet opened */
  uint32_t boots;
} posix_device_t;

extern posix_device_t posix_device;

_Noreturn void posix_fail(const char *what, const char *which);
/* Map the flash file. Another process with the same file is waited for, then refused. */
void posix_flash_open(const char *path);
/* Make the pseudo terminal and its link, unless they are there already. */
void posix_line_open(void);
/* Replace this process by the program in `fd`. */
_Noreturn void posix_exec(int fd);

#endif
