#include "base/notify.h"

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static struct sockaddr_un address;
static socklen_t address_len;
static int64_t watchdog_ms;

/* WATCHDOG_PID, where it is set, says that another process is meant. */
static int64_t read_watchdog_ms(void)
{
	const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
	char *end = NULL;
	long long n = usec ? strtoll(usec, &end, 10) : 0;
	if (n <= 0 || *end || (pid && strtoll(pid, NULL, 10) != getpid()))
		return 0;
	return n / 3000 > 0 ? n / 3000 : 1;
}

void notify_init(void)
{
	const char *path = getenv("NOTIFY_SOCKET");
	size_t len = path ? strlen(path) : 0;
	if (len > 1 && len < sizeof address.sun_path && (path[0] == '/' || path[0] == '@')) {
		address.sun_family = AF_UNIX;
		memcpy(address.sun_path, path, len);
		if (path[0] == '@')
			address.sun_path[0] = '\0';
		address_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
	}
	watchdog_ms = address_len ? read_watchdog_ms() : 0;
	unsetenv("NOTIFY_SOCKET");
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
}

int64_t notify_watchdog_ms(void)
{
	return watchdog_ms;
}

void notify_send(const char *state)
{
	if (!address_len)
		return;
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	if (sendto(fd, state, strlen(state), MSG_NOSIGNAL, (const struct sockaddr *)&address, address_len) < 0)
		log_debug("cannot notify the service manager: %s", strerror(errno));
	close(fd);
}

void notify_ready_file(const char *path, int ready)
{
	struct err e = { 0 };
	if (!path)
		return;
	if (!ready)
		unlink(path);
	else if (file_write(path, "", 0, 0644, &e))
		log_warn("ready_file: %s", e.text);
}
