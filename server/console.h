/* The web console: a fixed table of files that the program carries in itself (server/console/). A path is in the table
 * or it is not; nothing is looked for on a disk. Any thread. */
#ifndef SERVER_CONSOLE_H
#define SERVER_CONSOLE_H

#include "server/api.h"

#include <stdbool.h>

bool console_has(const char *path);
/* The file at a path that console_has, with the headers that tell a browser how little it may do; 405 for what is not
 * GET or HEAD. out is free to use and the caller's to free. */
void console_answer(const char *method, const char *path, const char *request_id, struct api_response *out);

#endif
