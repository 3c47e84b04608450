/* mcumgr's console framing (tml/smp.h): bytes of a line to packets, and packets to lines. */
#include <string.h>

#include "smp_internal.h"

#define START_1 0x06u
#define START_2 0x09u
#define CONTINUE_1 0x04u
#define CONTINUE_2 0x14u
#define LINE_PAYLOAD_BYTES 93u /* 124 characters of base64, two of frame, one newline: 127 */

enum { LINE_SKIP = 0, LINE_START, LINE_CONTINUE, LINE_DATA };

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static uint16_t crc16_xmodem(const uint8_t *data, uint32_t bytes) {
  uint32_t crc = 0;
  for (uint32_t i = 0; i < bytes; i++) {
    crc ^= (uint32_t)data[i] << 8;
    for (unsigned bit = 0; bit < 8; bit++) {
      crc = (crc & 0x8000u) != 0 ? (crc << 1) ^ 0x1021u : crc << 1;
    }
  }
  return (uint16_t)crc;
}

static int base64_value(uint8_t c) {
  if (c >= 'A' && c <= 'Z') {
    return c - 'A';
  }
  if (c >= 'a' && c <= 'z') {
    return c - 'a' + 26;
  }
  if (c >= '0' && c <= '9') {
    return c - '0' + 52;
  }
  return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Four characters to one to three bytes of the packet. */
static bool take_quad(tml_smp_t *smp) {
  const uint8_t *q = smp->quad;
  const uint32_t bytes = q[3] != '=' ? 3u : q[2] != '=' ? 2u : 1u;
  uint32_t bits = 0;
  for (unsigned i = 0; i < 4; i++) {
    const int value = i > bytes ? 0 : base64_value(q[i]);
    if (value < 0) {
      return false;
    }
    bits = bits << 6 | (uint32_t)value;
  }
  if (smp->packet_bytes + bytes > sizeof smp->packet) {
    return false;
  }
  for (uint32_t i = 0; i < bytes; i++) {
    smp->packet[smp->packet_bytes++] = (uint8_t)(bits >> (16u - 8u * i));
  }
  return true;
}

static void send_quad(tml_smp_t *smp, const uint8_t *from, uint32_t bytes) {
  const uint32_t bits = (uint32_t)from[0] << 16 | (bytes > 1 ? (uint32_t)from[1] << 8 : 0u) | (bytes > 2 ? (uint32_t)from[2] : 0u);
  const uint8_t quad[4] = {
      (uint8_t)alphabet[bits >> 18],
      (uint8_t)alphabet[(bits >> 12) & 63u],
      (uint8_t)(bytes > 1 ? alphabet[(bits >> 6) & 63u] : '='),
      (uint8_t)(bytes > 2 ? alphabet[bits & 63u] : '='),
  };
  smp->config.write(quad, sizeof quad);
}

/* `packet`: length, message, CRC. */
static void send_packet(tml_smp_t *smp, const uint8_t *packet, uint32_t bytes) {
  static const uint8_t start[2] = {START_1, START_2}, further[2] = {CONTINUE_1, CONTINUE_2}, end[1] = {'\n'};
  for (uint32_t at = 0; at < bytes; at += LINE_PAYLOAD_BYTES) {
    const uint32_t line_end = bytes - at < LINE_PAYLOAD_BYTES ? bytes : at + LINE_PAYLOAD_BYTES;
    smp->config.write(at == 0 ? start : further, 2);
    for (uint32_t i = at; i < line_end; i += 3u) {
      send_quad(smp, packet + i, line_end - i < 3u ? line_end - i : 3u);
    }
    smp->config.write(end, 1);
  }
}

static void take_packet(tml_smp_t *smp) {
  const uint32_t message_bytes = smp->packet_bytes - SMP_PACKET_OVERHEAD;
  const uint8_t *message = smp->packet + 2;
  const uint16_t crc = (uint16_t)(message[message_bytes] << 8 | message[message_bytes + 1]);
  if (crc16_xmodem(message, message_bytes) != crc) {
    return; /* the client asks again */
  }
  const uint32_t bytes = tml_smp_message(smp, message, message_bytes, smp->answer + 2, sizeof smp->answer - SMP_PACKET_OVERHEAD);
  if (bytes == 0) {
    return;
  }
  const uint16_t answer_crc = crc16_xmodem(smp->answer + 2, bytes);
  smp->answer[0] = (uint8_t)((bytes + 2u) >> 8);
  smp->answer[1] = (uint8_t)(bytes + 2u);
  smp->answer[bytes + 2] = (uint8_t)(answer_crc >> 8);
  smp->answer[bytes + 3] = (uint8_t)answer_crc;
  send_packet(smp, smp->answer, bytes + SMP_PACKET_OVERHEAD);
}

/* A line has ended: is the packet whole? */
static void end_line(tml_smp_t *smp) {
  if (smp->line_state != LINE_DATA || smp->quad_count != 0 || smp->packet_bytes < 2) {
    return;
  }
  const uint32_t expected = 2u + ((uint32_t)smp->packet[0] << 8 | smp->packet[1]);
  if (smp->packet_bytes >= expected) {
    if (smp->packet_bytes == expected && expected >= SMP_PACKET_OVERHEAD) {
      take_packet(smp);
    }
    smp->packet_bytes = 0;
  }
}

void tml_smp_init(tml_smp_t *smp, const tml_smp_config_t *config) {
  memset(smp, 0, sizeof *smp);
  smp->config = *config;
}

void tml_smp_byte(tml_smp_t *smp, uint8_t byte) {
  if (byte == '\n' || byte == '\r') {
    end_line(smp);
    smp->line_state = LINE_SKIP;
    return;
  }
  /* Neither is in base64: wherever they come, a line begins. */
  if (byte == START_1 || byte == CONTINUE_1) {
    smp->line_state = byte == START_1 ? LINE_START : LINE_CONTINUE;
    return;
  }
  switch (smp->line_state) {
    case LINE_START:
    case LINE_CONTINUE: {
      const bool start = smp->line_state == LINE_START;
      /* A continuation without a beginning belongs to a packet that was given up. */
      const bool taken = start ? byte == START_2 : byte == CONTINUE_2 && smp->packet_bytes > 0;
      smp->line_state = taken ? LINE_DATA : LINE_SKIP;
      smp->packet_bytes = start ? 0 : smp->packet_bytes;
      smp->quad_count = 0;
      return;
    }
    case LINE_DATA:
      smp->quad[smp->quad_count++] = byte;
      if (smp->quad_count == sizeof smp->quad) {
        smp->quad_count = 0;
        if (!take_quad(smp)) {
          smp->packet_bytes = 0;
          smp->line_state = LINE_SKIP;
        }
      }
      return;
    default:
      return;
  }
}
