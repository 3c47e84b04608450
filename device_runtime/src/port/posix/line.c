/* The line: a pseudo terminal that outlives resets, with a link at a stable path. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "posix_port.h"
#include "tml/port.h"

#define WRITE_TIMEOUT_MS 1000 /* a client that has gone does not stop the device */

static uint8_t received[4096];
static size_t received_next, received_end;
static uint8_t unsent[4096];
static size_t unsent_bytes;

static void link_to(const char *terminal) {
  char beside[PATH_MAX];
  const int length = snprintf(beside, sizeof beside, "%s.%ld", posix_device.link_path, (long)getpid());
  if (length < 0 || (size_t)length >= sizeof beside) {
    posix_fail("the path of the link (--link) is too long", posix_device.link_path);
  }
  (void)unlink(beside);
  if (symlink(terminal, beside) != 0 || rename(beside, posix_device.link_path) != 0) {
    posix_fail("cannot make the link (--link)", posix_device.link_path);
  }
}

void posix_line_open(void) {
  if (posix_device.master >= 0) {
    return;
  }
  posix_device.master = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);
  char terminal[64];
  if (posix_device.master < 0 || grantpt(posix_device.master) != 0 || unlockpt(posix_device.master) != 0 ||
      ptsname_r(posix_device.master, terminal, sizeof terminal) != 0) {
    posix_fail("cannot make a pseudo terminal", strerror(errno));
  }
  /* Kept open here: without it the line would end whenever a client closes it. */
  posix_device.slave = open(terminal, O_RDWR | O_NOCTTY);
  struct termios settings;
  if (posix_device.slave < 0 || tcgetattr(posix_device.slave, &settings) != 0) {
    posix_fail("cannot open the pseudo terminal", terminal);
  }
  cfmakeraw(&settings);
  (void)tcsetattr(posix_device.slave, TCSANOW, &settings);
  link_to(terminal);
}

static void flush(void) {
  size_t sent = 0;
  while (sent < unsent_bytes) {
    const ssize_t count = write(posix_device.master, unsent + sent, unsent_bytes - sent);
    if (count > 0) {
      sent += (size_t)count;
      continue;
    }
    struct pollfd waiting = {posix_device.master, POLLOUT, 0};
    if ((errno != EAGAIN && errno != EINTR) || poll(&waiting, 1, WRITE_TIMEOUT_MS) <= 0) {
      break;
    }
  }
  unsent_bytes = 0;
}

void tml_port_open(void) { posix_line_open(); }

bool tml_port_read_byte(uint8_t *byte) {
  if (received_next == received_end) {
    const ssize_t count = read(posix_device.master, received, sizeof received);
    received_next = 0;
    received_end = count > 0 ? (size_t)count : 0;
    if (received_end == 0) {
      return false;
    }
  }
  *byte = received[received_next++];
  return true;
}

void tml_port_write(const uint8_t *bytes, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    if (unsent_bytes == sizeof unsent) {
      flush();
    }
    unsent[unsent_bytes++] = bytes[i];
  }
}

void tml_port_wait(void) {
  flush();
  struct pollfd waiting = {posix_device.master, POLLIN, 0};
  (void)poll(&waiting, 1, -1);
}

void tml_port_stop_reading(void) {} /* the terminal keeps what nobody has read */

_Noreturn void tml_port_reset(void) {
  flush();
  posix_exec(posix_device.boot);
}
