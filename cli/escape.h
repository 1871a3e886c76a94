/* Escapes of a port-forward on a terminal: lines of their own, "~." and so on. The terminal stays in cooked mode, so
 * echo, line editing and Ctrl-C are as always, and nothing has to be put back at the end; the price is Enter behind the
 * escape. */
#ifndef CLI_ESCAPE_H
#define CLI_ESCAPE_H

#include <stdbool.h>
#include <uv.h>

enum escape {
	ESCAPE_NONE,
	ESCAPE_END,       /* ~. */
	ESCAPE_DETACH,    /* ~d */
	ESCAPE_RECONNECT, /* ~r */
	ESCAPE_STATUS,    /* ~s */
	ESCAPE_HELP,      /* ~? and every other "~x" */
};
#define ESCAPE_HELP_TEXT                                                                                             \
	"~. ends the session, ~d leaves it for resume-session, ~r reconnects, ~s shows its state, ~~ does nothing; " \
	"each with Enter"

/* A line without its newline. */
enum escape escape_of_line(const char *line);

struct escape_reader {
	uv_poll_t poll;
	uv_timer_t again; /* runs while another process group has the terminal */
	void (*on_escape)(void *user, enum escape escape);
	void *user;
	int fd;
	char line[8];
	size_t len; /* of the line, also beyond what line holds */
	bool active;
};

/* Watches standard input when it is a terminal; else does nothing. */
void escape_start(struct escape_reader *r, uv_loop_t *loop, void (*on_escape)(void *user, enum escape escape),
		  void *user);
void escape_stop(struct escape_reader *r); /* also when it never started */

#endif
