/* One SMP message to its answer: header, table of commands, errors, and the os group.
 *
 * Header, 8 bytes: [res 3 | version 2 | op 3] [flags] [u16 length] [u16 group] [sequence] [command], big-endian. Version 0 is
 * SMP v1, 1 is v2; op 0 read, 2 write, and one more in the answer.
 */
#include <string.h>

#include "smp_internal.h"

#define OP_READ 0u
#define OP_WRITE 2u

static smp_result_t os_echo(tml_smp_t *smp, const smp_request_t *request, zcbor_state_t *answer) {
  (void)smp;
  if (!request->has_text) {
    return smp_general(MGMT_INVALID);
  }
  return smp_written(zcbor_tstr_put_lit(answer, "r") && zcbor_tstr_encode(answer, &request->text));
}

static smp_result_t os_reset(tml_smp_t *smp, const smp_request_t *request, zcbor_state_t *answer) {
  (void)request;
  (void)answer;
  smp->reset_requested = true;
  return smp_ok();
}

static smp_result_t os_parameters(tml_smp_t *smp, const smp_request_t *request, zcbor_state_t *answer) {
  (void)smp;
  (void)request;
  return smp_written(tml_smp_put_uint(answer, "buf_size", TML_SMP_BUFFER_BYTES) && tml_smp_put_uint(answer, "buf_count", 1));
}

static const struct {
  uint16_t group;
  uint8_t command, op;
  smp_handler_t handle;
} commands[] = {
    {GROUP_OS, 0, OP_READ, os_echo},
    {GROUP_OS, 0, OP_WRITE, os_echo},
    {GROUP_OS, 5, OP_WRITE, os_reset},
    {GROUP_OS, 6, OP_READ, os_parameters},
    {GROUP_IMAGE, 0, OP_READ, tml_smp_image_state_read},
    {GROUP_IMAGE, 0, OP_WRITE, tml_smp_image_state_write},
    {GROUP_IMAGE, 1, OP_WRITE, tml_smp_image_upload},
    {GROUP_IMAGE, 5, OP_WRITE, tml_smp_image_erase},
    {GROUP_TINYML, 0, OP_READ, tml_smp_model_info},
    {GROUP_TINYML, 1, OP_WRITE, tml_smp_model_input},
    {GROUP_TINYML, 2, OP_WRITE, tml_smp_model_run},
    {GROUP_TINYML, 3, OP_READ, tml_smp_model_output},
    {GROUP_TINYML, 4, OP_READ, tml_smp_model_stats},
};

bool tml_smp_put_uint(zcbor_state_t *answer, const char *key, uint64_t value) {
  return zcbor_tstr_encode_ptr(answer, key, strlen(key)) && zcbor_uint64_put(answer, value);
}

bool tml_smp_put_bool(zcbor_state_t *answer, const char *key, bool value) {
  return zcbor_tstr_encode_ptr(answer, key, strlen(key)) && zcbor_bool_put(answer, value);
}

bool tml_smp_put_bytes(zcbor_state_t *answer, const char *key, const uint8_t *value, uint32_t bytes) {
  return zcbor_tstr_encode_ptr(answer, key, strlen(key)) && zcbor_bstr_encode_ptr(answer, (const char *)value, bytes);
}

bool tml_smp_put_text(zcbor_state_t *answer, const char *key, const char *value) {
  return zcbor_tstr_encode_ptr(answer, key, strlen(key)) && zcbor_tstr_encode_ptr(answer, value, strlen(value));
}

static bool is_key(const struct zcbor_string *key, const char *name) {
  return key->len == strlen(name) && memcmp(key->value, name, key->len) == 0;
}

/* A member that no command reads. Containers and tags are refused: skipping them would recurse as deep as the sender likes. */
static bool skip_scalar(zcbor_state_t *cbor) {
  if (zcbor_payload_at_end(cbor)) {
    return false;
  }
  switch (ZCBOR_MAJOR_TYPE(*cbor->payload)) {
    case ZCBOR_MAJOR_TYPE_LIST:
    case ZCBOR_MAJOR_TYPE_MAP:
    case ZCBOR_MAJOR_TYPE_TAG:
      return false;
    default:
      return zcbor_any_skip(cbor, NULL);
  }
}

static bool decode_member(zcbor_state_t *cbor, const struct zcbor_string *key, smp_request_t *out) {
  if (is_key(key, "off")) {
    return out->has_off = zcbor_uint32_decode(cbor, &out->off);
  }
  if (is_key(key, "len")) {
    return out->has_len = zcbor_uint32_decode(cbor, &out->len);
  }
  if (is_key(key, "image")) {
    return out->has_image = zcbor_uint32_decode(cbor, &out->image);
  }
  if (is_key(key, "slot")) {
    return out->has_slot = zcbor_uint32_decode(cbor, &out->slot);
  }
  if (is_key(key, "data")) {
    return out->has_data = zcbor_bstr_decode(cbor, &out->data);
  }
  if (is_key(key, "sha")) {
    return out->has_sha = zcbor_bstr_decode(cbor, &out->sha);
  }
  if (is_key(key, "hash")) {
    return out->has_hash = zcbor_bstr_decode(cbor, &out->hash);
  }
  if (is_key(key, "d")) {
    return out->has_text = zcbor_tstr_decode(cbor, &out->text);
  }
  if (is_key(key, "confirm")) {
    return zcbor_bool_decode(cbor, &out->confirm);
  }
  return skip_scalar(cbor);
}

/* A map in any order; members of a wrong type make the whole request wrong. */
static bool decode_request(const uint8_t *payload, uint32_t bytes, smp_request_t *out) {
  memset(out, 0, sizeof *out);
  if (bytes == 0) {
    return true; /* some clients send nothing for {} */
  }
  ZCBOR_STATE_D(cbor, 1, payload, bytes, 1, 0);
  if (!zcbor_map_start_decode(cbor)) {
    return false;
  }
  while (!zcbor_array_at_end(cbor)) {
    struct zcbor_string key;
    if (!zcbor_tstr_decode(cbor, &key) || !decode_member(cbor, &key, out)) {
      return false;
    }
  }
  return zcbor_map_end_decode(cbor);
}

static smp_result_t dispatch(tml_smp_t *smp, uint32_t group, uint8_t command, uint8_t op, const smp_request_t *request,
                             zcbor_state_t *answer) {
  for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
    if (commands[i].group == group && commands[i].command == command && commands[i].op == op) {
      return commands[i].handle(smp, request, answer);
    }
  }
  return smp_general(MGMT_NOT_SUPPORTED);
}

/* The answer's map; 0 where it does not fit. Errors replace what the handler has written. */
static uint32_t encode_error(uint8_t *at, uint32_t capacity, uint32_t group, uint8_t version, smp_result_t result) {
  ZCBOR_STATE_E(cbor, 2, at, capacity, 0);
  bool ok = zcbor_map_start_encode(cbor, 2);
  if (result.general || version == 0) {
    ok = ok && tml_smp_put_uint(cbor, "rc", result.rc);
  } else {
    ok = ok && zcbor_tstr_put_lit(cbor, "err") && zcbor_map_start_encode(cbor, 2) && tml_smp_put_uint(cbor, "group", group) &&
         tml_smp_put_uint(cbor, "rc", result.rc) && zcbor_map_end_encode(cbor, 2);
  }
  return ok && zcbor_map_end_encode(cbor, 2) ? (uint32_t)(cbor->payload - at) : 0;
}

uint32_t tml_smp_message(tml_smp_t *smp, const uint8_t *message, uint32_t bytes, uint8_t *answer, uint32_t capacity) {
  if (bytes < SMP_HEADER_BYTES || capacity <= SMP_HEADER_BYTES) {
    return 0;
  }
  const uint8_t version = (message[0] >> 3) & 3u, op = message[0] & 7u;
  const uint32_t length = (uint32_t)message[2] << 8 | message[3];
  const uint32_t group = (uint32_t)message[4] << 8 | message[5];
  if ((op != OP_READ && op != OP_WRITE) || length != bytes - SMP_HEADER_BYTES) {
    return 0; /* an answer, or not a message: stay silent */
  }
  uint8_t *const body = answer + SMP_HEADER_BYTES;
  const uint32_t body_capacity = capacity - SMP_HEADER_BYTES;
  smp_request_t request;
  smp_result_t result = smp_general(MGMT_INVALID);
  uint32_t body_bytes = 0;
  if (decode_request(message + SMP_HEADER_BYTES, length, &request)) {
    ZCBOR_STATE_E(cbor, 4, body, body_capacity, 0);
    result = zcbor_map_start_encode(cbor, 16) ? dispatch(smp, group, message[7], op, &request, cbor) : smp_general(MGMT_NOMEM);
    if (result.rc == MGMT_OK) {
      result = smp_written(zcbor_map_end_encode(cbor, 16));
      body_bytes = (uint32_t)(cbor->payload - body);
    }
  }
  if (result.rc != MGMT_OK) {
    body_bytes = encode_error(body, body_capacity, group, version, result);
  }
  memcpy(answer, message, SMP_HEADER_BYTES);
  answer[0] = (uint8_t)((uint32_t)version << 3 | (op + 1u));
  answer[1] = 0;
  answer[2] = (uint8_t)(body_bytes >> 8);
  answer[3] = (uint8_t)body_bytes;
  return SMP_HEADER_BYTES + body_bytes;
}
