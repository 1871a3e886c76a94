/* For ssh's ProxyUseFdpass: a connection to our socket, handed to ssh. The C library is all it needs: ssh waits for the
 * program that does it. */
#ifndef CLI_PASS_FD_H
#define CLI_PASS_FD_H

/* Connects to the socket at path, waits for a byte, which says that all is ready that ssh reads, and sends the
 * connection over the descriptor `over`. 0, or -1 and errno; ECANCELED: nobody is there (any more) who would have sent
 * it, and has told its user why. */
int pass_fd(const char *path, int over);

#endif
