/* The files of server/console/, made into arrays by cmake/embed.cmake. */
#ifndef SERVER_CONSOLE_FILES_H
#define SERVER_CONSOLE_FILES_H

#include <stddef.h>

struct console_file {
	const char *name; /* "app.js" */
	const unsigned char *data;
	size_t size;
};
/* Ends with name NULL. */
extern const struct console_file console_files[];

#endif
