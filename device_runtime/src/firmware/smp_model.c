/* Group 64: the model on this device. Inputs and outputs travel as the bytes of all tensors one after the other.
 *
 * A request whose answer was lost may be asked again: input for a place that was written already is written again, and a run
 * without new input answers as the last one did. */
#include <string.h>

#include "smp_internal.h"

static uint32_t total_bytes(const tml_tensor_io_t *tensors, uint32_t count) {
  uint32_t bytes = 0;
  for (uint32_t i = 0; i < count; i++) {
    bytes += tensors[i].bytes;
  }
  return bytes;
}

static uint32_t input_bytes(const tml_smp_t *smp) { return total_bytes(smp->config.model->inputs, smp->config.model->input_count); }
static uint32_t output_bytes(const tml_smp_t *smp) {
  return total_bytes(smp->config.model->outputs, smp->config.model->output_count);
}

/* Where byte `offset` of the tensors lies in the arena, and how many bytes follow it there. offset < total_bytes. */
static uint32_t place(const tml_tensor_io_t *tensors, uint32_t offset, uint32_t *contiguous) {
  while (offset >= tensors->bytes) {
    offset -= tensors->bytes;
    tensors++;
  }
  *contiguous = tensors->bytes - offset;
  return tensors->arena_offset + offset;
}

smp_result_t tml_smp_model_info(tml_smp_t *smp, const smp_request_t *request, zcbor_state_t *answer) {
  (void)request;
  const tml_smp_config_t *config = &smp->config;
  return smp_written(tml_smp_put_text(answer, "class", config->map->device_class) &&
                     tml_smp_put_text(answer, "hwid", config->hardware_id) &&
                     tml_smp_put_bytes(answer, "abi", config->model->abi_hash, TML_ABI_HASH_BYTES) &&
                     tml_smp_put_bool(answer, "model", config->weights != NULL) && tml_smp_put_uint(answer, "in", input_bytes(smp)) &&
                     tml_smp_put_uint(answer, "out", output_bytes(smp)) &&
                     tml_smp_put_uint(answer, "arena", config->model->arena_bytes));
}

smp_result_t tml_smp_model_input(tml_smp_t *smp, const smp_request_t *request, zcbor_state_t *answer) {
  if (smp->config.weights == NULL) {
    return smp_group(TINYML_NO_MODEL);
  }
  if (!request->has_data) {
    return smp_general(MGMT_INVALID);
  }
  if (!request->has_off || request->off > smp->input_offset) {
    return smp_group(TINYML_BAD_OFFSET);
  }
  if (request->data.len > input_bytes(smp) - request->off) {
    return smp_group(TINYML_BAD_LENGTH);
  }
  smp->output_valid = false; /* the arena's bytes may be shared by inputs and outputs */
  smp->input_offset = request->off;
  for (uint32_t taken = 0; taken < request->data.len;) {
    uint32_t bytes;
    uint8_t *const to = smp->config.arena + place(smp->config.model->inputs, smp->input_offset, &bytes);
    const uint32_t left = (uint32_t)request->data.len - taken;
    bytes = left < bytes ? left : bytes;
    memcpy(to, request->data.value + taken, bytes);
    taken += bytes;
    smp->input_offset += bytes;
  }
  return smp_written(tml_smp_put_uint(answer, "off", smp->input_offset));
}

static smp_result_t put_ticks(const tml_smp_t *smp, zcbor_state_t *answer) {
  return smp_written(tml_smp_put_uint(answer, "ticks", smp->last_ticks) && tml_smp_put_uint(answer, "hz", smp->config.ticks_hz));
}

smp_result_t tml_smp_model_run(tml_smp_t *smp, const smp_request_t *request, zcbor_state_t *answer) {
  (void)request;
  const tml_smp_config_t *config = &smp->config;
  if (config->weights == NULL) {
    return smp_group(TINYML_NO_MODEL);
  }
  if (smp->output_valid) {
    return put_ticks(smp, answer);
  }
  if (smp->input_offset != input_bytes(smp)) {
    return smp_group(TINYML_BAD_LENGTH);
  }
  const uint64_t start = config->ticks();
  const tml_status_t status = config->model->invoke(config->weights, config->arena);
  smp->last_ticks = config->ticks() - start;
  smp->input_offset = 0; /* a run may overwrite its inputs */
  smp->output_valid = status == TML_OK;
  smp->runs++;
  if (status != TML_OK) {
    smp->errors++;
    return smp_group(TINYML_INVOKE_FAILED);
  }
  return put_ticks(smp, answer);
}

smp_result_t tml_smp_model_output(tml_smp_t *smp, const smp_request_t *request, zcbor_state_t *answer) {
  if (smp->config.weights == NULL) {
    return smp_group(TINYML_NO_MODEL);
  }
  const uint32_t total = output_bytes(smp);
  if (!request->has_off || request->off > total) {
    return smp_group(TINYML_BAD_OFFSET);
  }
  if (!smp->output_valid) {
    return smp_group(TINYML_INVOKE_FAILED); /* nothing has run since the input was written */
  }
  uint32_t bytes = 0;
  const uint8_t *from = smp->config.arena;
  if (request->off < total) {
    from += place(smp->config.model->outputs, request->off, &bytes);
  }
  const uint32_t room = TML_SMP_BUFFER_BYTES - SMP_PACKET_OVERHEAD - SMP_HEADER_BYTES - 48u; /* 48: all but the data itself */
  bytes = bytes < room ? bytes : room;
  return smp_written(tml_smp_put_uint(answer, "off", request->off) && tml_smp_put_bytes(answer, "data", from, bytes) &&
                     tml_smp_put_uint(answer, "len", total));
}

smp_result_t tml_smp_model_stats(tml_smp_t *smp, const smp_request_t *request, zcbor_state_t *answer) {
  (void)request;
  return smp_written(tml_smp_put_uint(answer, "runs", smp->runs) && tml_smp_put_uint(answer, "errors", smp->errors) &&
                     tml_smp_put_uint(answer, "boots", smp->config.boots) &&
                     tml_smp_put_uint(answer, "stack", smp->config.stack_high_water()));
}
