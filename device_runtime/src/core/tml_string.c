/* memcpy and its kin for targets without a C library. Compiled to nothing on a hosted target (newlib, the host), which has them.
 *
 * Compilers recognise such loops and would call the very function they stand in: clang not under -ffreestanding, gcc not with
 * the attribute below.
 */
#if !__STDC_HOSTED__

#include "freestanding/string.h"

#include <stdint.h>

#if defined(__GNUC__) && !defined(__clang__)
#define NO_PATTERNS __attribute__((optimize("no-tree-loop-distribute-patterns")))
#else
#define NO_PATTERNS
#endif

NO_PATTERNS void *memcpy(void *restrict to, const void *restrict from, size_t bytes) {
  uint8_t *out = to;
  const uint8_t *in = from;
  while (bytes-- > 0) {
    *out++ = *in++;
  }
  return to;
}

NO_PATTERNS void *memmove(void *to, const void *from, size_t bytes) {
  uint8_t *out = to;
  const uint8_t *in = from;
  if ((uintptr_t)to <= (uintptr_t)from) {
    while (bytes-- > 0) {
      *out++ = *in++;
    }
  } else {
    while (bytes-- > 0) {
      out[bytes] = in[bytes];
    }
  }
  return to;
}

NO_PATTERNS void *memset(void *at, int value, size_t bytes) {
  uint8_t *out = at;
  while (bytes-- > 0) {
    *out++ = (uint8_t)value;
  }
  return at;
}

NO_PATTERNS int memcmp(const void *a, const void *b, size_t bytes) {
  const uint8_t *x = a;
  const uint8_t *y = b;
  for (; bytes > 0; bytes--, x++, y++) {
    if (*x != *y) {
      return *x < *y ? -1 : 1;
    }
  }
  return 0;
}

NO_PATTERNS size_t strlen(const char *text) {
  size_t length = 0;
  while (text[length] != '\0') {
    length++;
  }
  return length;
}

#else
typedef int tml_string_is_the_c_library_s; /* ISO C wants a declaration */
#endif
