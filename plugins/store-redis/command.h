/* Commands in the form they are sent in: made anywhere, sent as they are. What data says is never read as a format. */
#ifndef COMMAND_H
#define COMMAND_H

#include <stdbool.h>
#include <stddef.h>

struct command {
	char *bytes;
	size_t used, room;
	bool failed; /* out of memory; what was added since is missing */
};

/* A command of n words follows; several may stand one behind the other. */
void command_begin(struct command *c, size_t n);
void command_bytes(struct command *c, const char *bytes, size_t n);
void command_text(struct command *c, const char *text);
void command_format(struct command *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Makes room for at least n more bytes. */
bool command_reserve(struct command *c, size_t n);
void command_append(struct command *c, const char *bytes, size_t n); /* of another command, as it is */
void command_clear(struct command *c);                               /* empty again; keeps little memory */
void command_free(struct command *c);

#endif
