/* The frames of PROTOCOL.md 4.2 as bytes: nothing here knows streams or epochs. Readers check everything that can be
 * checked without state and say what is wrong; writers return how many bytes they wrote. */
#ifndef LINK_FRAME_H
#define LINK_FRAME_H

#include "base/err.h"
#include "base/limits.h"
#include "link/link.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FRAME_HEAD 12u
#define FRAME_DATA_HEAD 20u /* with the offset */
#define FRAME_ENTRY 32u     /* bytes of a RESUME entry */
/* Bytes of payload in a bulk DATA frame: header and payload fill one TLS record. */
#define FRAME_DATA_BODY (16384u - FRAME_DATA_HEAD)
#define FRAME_CONTROL_MAX (FRAME_HEAD + 6u + LIMIT_LINK_HOST) /* the longest of all but RESUME and DATA */

enum frame_type {
	FRAME_HELLO = 1,
	FRAME_RESUME,
	FRAME_OPEN,
	FRAME_OPENED,
	FRAME_REFUSED,
	FRAME_DATA,
	FRAME_ACK,
	FRAME_FIN,
	FRAME_RESET,
	FRAME_PING,
	FRAME_PONG,
	FRAME_BYE,
};

#define FRAME_FLAG_MORE 0x01u     /* RESUME */
#define FRAME_FLAG_FIN_DONE 0x01u /* ACK */
#define FRAME_LINK_VERSION 1u     /* HELLO */
#define FRAME_STATE_OPENED 0x01u  /* the states of a RESUME entry */
#define FRAME_STATE_FIN 0x02u
#define FRAME_STATE_FIN_DONE 0x04u
#define FRAME_STATE_DONE 0x08u
#define FRAME_STATE_ABORTED 0x10u

struct frame_head {
	enum frame_type type;
	uint8_t flags;
	uint32_t stream, length;
};

struct frame_hello {
	uint32_t max_streams, initial_window;
};

struct frame_entry {
	uint32_t stream;
	uint8_t state;
	uint64_t received, delivered, credit;
};

struct frame_ack {
	uint64_t delivered, credit;
};

/* REFUSED, RESET, BYE. text is checked UTF-8; control characters have become '?', since people read it on terminals. */
struct frame_reason {
	unsigned code;
	char text[LIMIT_LINK_TEXT + 1];
};

const char *frame_name(unsigned type);
/* ERR_PROTOCOL for an unknown type, a wrong flag, a length out of the type's range, a stream where none belongs. */
int frame_read_head(const uint8_t in[FRAME_HEAD], struct frame_head *out, struct err *e);
int frame_read_hello(const uint8_t *body, size_t len, struct frame_hello *out, struct err *e);
int frame_read_entry(const uint8_t in[FRAME_ENTRY], struct frame_entry *out, struct err *e);
int frame_read_open(const uint8_t *body, size_t len, struct link_dest *out, struct err *e);
int frame_read_reason(const uint8_t *body, size_t len, struct frame_reason *out, struct err *e);
struct frame_ack frame_read_ack(const uint8_t body[16]);
uint64_t frame_read_u64(const uint8_t in[8]);

void frame_write_head(uint8_t out[FRAME_HEAD], enum frame_type type, unsigned flags, uint32_t stream, size_t length);
void frame_write_data_head(uint8_t out[FRAME_DATA_HEAD], uint32_t stream, uint64_t offset, size_t payload);
void frame_write_entry(uint8_t out[FRAME_ENTRY], const struct frame_entry *entry);
/* Whole frames; out has room for FRAME_CONTROL_MAX bytes. */
size_t frame_write_hello(uint8_t *out, const struct frame_hello *hello);
size_t frame_write_open(uint8_t *out, uint32_t stream, const struct link_dest *dest);
size_t frame_write_opened(uint8_t *out, uint32_t stream);
size_t frame_write_reason(uint8_t *out, enum frame_type type, uint32_t stream, unsigned code, const char *text);
size_t frame_write_ack(uint8_t *out, uint32_t stream, uint64_t delivered, uint64_t credit, bool fin_done);
/* FIN, PING, PONG */
size_t frame_write_number(uint8_t *out, enum frame_type type, uint32_t stream, uint64_t number);

/* What OPEN may ask for; also checked before this end asks. */
int frame_check_dest(const struct link_dest *dest, struct err *e);

#endif
