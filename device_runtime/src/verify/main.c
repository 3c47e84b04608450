/* Runs a model on vectors: the host's side of the comparison with the oracle.
 *
 * Standard input:  u32 bytes of weights, the weights, u32 number of vectors, the vectors (all inputs of one, concatenated).
 * Standard output: all outputs of each vector, concatenated, then u32 bytes of stack that the runs used at most.
 * Numbers are little-endian, as the host must be.
 * Exit status: 0; 2 malformed input; 3 the weights do not fit the code; 4 the model failed; 5 it wrote outside of its arena.
 * The arena is filled with a pattern before each run: a model must not count on zeros, nor on what the last run left.
 */
#define _POSIX_C_SOURCE 200809L

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tml/model.h"

#define GUARD_BYTES 64u
#define PATTERN 0xA5
#define STACK_BYTES (256u * 1024u)
#define OWN_BYTES 256u /* of the stack below the frame of `run`, its own: not painted */

typedef struct {
  const uint8_t *weights;
  uint8_t *arena;
  uint8_t *stack; /* of the thread, STACK_BYTES */
  uint32_t stack_used;
  tml_status_t status;
} run_t;

static int fail(int status, const char *what) {
  fprintf(stderr, "%s\n", what);
  return status;
}

static int read_all(void *to, size_t bytes) { return fread(to, 1, bytes, stdin) == bytes; }

/* Aligned for an arena and followed by a guard; freed by the end of the process. */
static uint8_t *allocate(size_t bytes, size_t alignment) {
  size_t whole = (bytes + GUARD_BYTES + alignment - 1u) / alignment * alignment;
  uint8_t *memory = aligned_alloc(alignment, whole);
  if (memory) memset(memory, PATTERN, whole);
  return memory;
}

static int guard_is_whole(const uint8_t *end) {
  for (size_t i = 0; i < GUARD_BYTES; i++) {
    if (end[i] != PATTERN) return 0;
  }
  return 1;
}

/* In a thread, whose stack it paints below its own frame: what the thread library does before and after does not count. */
static void *run(void *argument) {
  run_t *call = argument;
  uint8_t *const top = __builtin_frame_address(0);
  for (volatile uint8_t *at = call->stack; at < top - OWN_BYTES; at++) *at = PATTERN;
  call->status = tml_model.invoke(call->weights, call->arena);
  const volatile uint8_t *lowest = call->stack;
  while (lowest < top - OWN_BYTES && *lowest == PATTERN) lowest++;
  call->stack_used = (uint32_t)(top - lowest);
  return NULL;
}

static int run_in_thread(run_t *call) {
  pthread_t thread;
  pthread_attr_t attributes;
  return pthread_attr_init(&attributes) == 0 && pthread_attr_setstack(&attributes, call->stack, STACK_BYTES) == 0 &&
         pthread_create(&thread, &attributes, run, call) == 0 && pthread_join(thread, NULL) == 0;
}

int main(void) {
  uint32_t weights_bytes, count, stack_bytes = 0;
  if (!read_all(&weights_bytes, sizeof weights_bytes)) return fail(2, "no weights");
  uint8_t *weights = allocate(weights_bytes, 16);
  uint8_t *arena = allocate(tml_model.arena_bytes, 16);
  uint8_t *stack = allocate(STACK_BYTES, 4096);
  if (!weights || !arena || !stack) return fail(2, "out of memory");
  if (!read_all(weights, weights_bytes) || !read_all(&count, sizeof count)) return fail(2, "weights are cut off");
  tml_status_t status = tml_model_check(&tml_model, weights, weights_bytes);
  if (status != TML_OK) {
    fprintf(stderr, "tml_model_check: %d\n", (int)status);
    return 3;
  }
  run_t call = {.weights = weights, .arena = arena, .stack = stack};
  for (uint32_t n = 0; n < count; n++) {
    memset(arena, PATTERN, tml_model.arena_bytes);
    for (uint8_t i = 0; i < tml_model.input_count; i++) {
      if (!read_all(arena + tml_model.inputs[i].arena_offset, tml_model.inputs[i].bytes)) return fail(2, "a vector is cut off");
    }
    if (!run_in_thread(&call)) return fail(2, "cannot start a thread");
    if (call.stack_used > stack_bytes) stack_bytes = call.stack_used;
    if (call.status != TML_OK) {
      fprintf(stderr, "vector %u: invoke: %d\n", (unsigned)n, (int)call.status);
      return 4;
    }
    if (!guard_is_whole(arena + tml_model.arena_bytes)) return fail(5, "the model wrote outside of its arena");
    for (uint8_t i = 0; i < tml_model.output_count; i++) {
      const tml_tensor_io_t *output = &tml_model.outputs[i];
      if (fwrite(arena + output->arena_offset, 1, output->bytes, stdout) != output->bytes) return fail(2, "cannot write");
    }
  }
  if (fwrite(&stack_bytes, sizeof stack_bytes, 1, stdout) != 1) return fail(2, "cannot write");
  return fflush(stdout) == 0 ? 0 : fail(2, "cannot write");
}
