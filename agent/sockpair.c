#include "agent/sockpair.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define STRANGERS 16 /* connections of others that are turned away before we give up */

/* The peer that the accepted socket names is the socket that we connected: nobody else can have that address and port.
 */
static bool is_ours(int accepted, int ours)
{
	struct sockaddr_in peer, self;
	socklen_t peer_len = sizeof peer, self_len = sizeof self;
	return getpeername(accepted, (struct sockaddr *)&peer, &peer_len) == 0 &&
	       getsockname(ours, (struct sockaddr *)&self, &self_len) == 0 && peer.sin_family == AF_INET &&
	       peer.sin_port == self.sin_port && peer.sin_addr.s_addr == self.sin_addr.s_addr;
}

static int accept_ours(int listener, int ours)
{
	for (int i = 0; i < STRANGERS; i++) {
		struct pollfd p = { .fd = listener, .events = POLLIN };
		if (poll(&p, 1, 1000) != 1)
			break;
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0)
			continue;
		if (is_ours(fd, ours))
			return fd;
		close(fd);
	}
	return -1;
}

static int loopback(int fds[2])
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t len = sizeof address;
	int on = 1, accepted = -1, ours = -1;
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (listener < 0)
		return -1;
	if (bind(listener, (struct sockaddr *)&address, sizeof address) == 0 && listen(listener, STRANGERS) == 0 &&
	    getsockname(listener, (struct sockaddr *)&address, &len) == 0)
		ours = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (ours >= 0 && (connect(ours, (struct sockaddr *)&address, sizeof address) == 0 || errno == EINPROGRESS))
		accepted = accept_ours(listener, ours);
	close(listener);
	if (accepted < 0) {
		if (ours >= 0)
			close(ours);
		return -1;
	}
	setsockopt(ours, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	setsockopt(accepted, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	fds[0] = ours, fds[1] = accepted;
	return 0;
}

int sockpair_loopback(int fds[2], struct err *e)
{
	if (loopback(fds) == 0)
		return 0;
	return err_set_errno(e, ERR_UNAVAILABLE, errno, "cannot make a connection over 127.0.0.1 for sshd");
}
