/* For ssh's ProxyUseFdpass: a connection to our socket, handed to ssh. The C library is all it needs: ssh waits for the
 * program that does it. */
#ifndef CLI_PASS_FD_H
#define CLI_PASS_FD_H

/* Connects to the socket at path and sends the connection over the descriptor `over`. 0, or -1 and errno. */
int pass_fd(const char *path, int over);

#endif
