/* tunnel-pass-fd SOCKET: for ssh's ProxyUseFdpass. Connects to the socket, hands the connection over through standard
 * output, ends. A program of its own because each ssh login waits for it to load. */
#include "cli/pass_fd.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	if (argc != 2) {
		fprintf(stderr, "tunnel-pass-fd: this is for ssh's ProxyCommand: it needs the path of one socket\n");
		return 2;
	}
	if (pass_fd(argv[1], STDOUT_FILENO) == 0)
		return 0;
	if (errno != ECANCELED)
		fprintf(stderr, "tunnel-pass-fd: %s: %s\n", argv[1], strerror(errno));
	return 1;
}
