/* Connects to a unix socket of this machine. */
#ifndef ENDPOINT_UNIX_SOCKET_H
#define ENDPOINT_UNIX_SOCKET_H

#include <stddef.h>

/* Never waits. A connected, non-blocking descriptor; or -1, an enum link_code and words for the peer. The path is a
 * checked one (text_is_socket_path); where symbolic links in it lead is this machine's business. */
int unix_socket_connect(const char *path, unsigned *out_code, char *out_text, size_t size);

#endif
