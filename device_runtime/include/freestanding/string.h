/* <string.h> for targets that have none (ziglang's freestanding ones): what the runtime and compilers use. Bodies: tml_string.c */
#ifndef TML_FREESTANDING_STRING_H
#define TML_FREESTANDING_STRING_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

void *memcpy(void *restrict to, const void *restrict from, size_t bytes);
void *memmove(void *to, const void *from, size_t bytes);
void *memset(void *at, int value, size_t bytes);
int memcmp(const void *a, const void *b, size_t bytes);
size_t strlen(const char *text);

#ifdef __cplusplus
}
#endif
#endif
