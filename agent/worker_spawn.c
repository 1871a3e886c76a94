#include "agent/worker_spawn.h"

#include "base/process.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* In the child of vfork. */
static void become_worker(int fd, int null, char *const *argv)
{
	process_default_signals();
	/* fd and null lie above 3, see worker_spawn */
	if (dup2(null, 0) < 0 || dup2(fd, WORKER_FD) < 0)
		_exit(126);
	closefrom(WORKER_FD + 1);
	if (chdir("/") != 0)
		_exit(126);
	process_restore_limits();
	execve("/proc/self/exe", argv, environ);
	_exit(127);
}

static int above(int fd, int floor)
{
	int moved = fcntl(fd, F_DUPFD_CLOEXEC, floor);
	if (fd >= 0)
		close(fd);
	return moved;
}

static int fork_twice(int fd, int null, char *const *argv, struct err *e)
{
	sigset_t before;
	process_block_signals(&before);
	pid_t child = process_vfork(); /* NOLINT(clang-analyzer-security.insecureAPI.vfork): see base/process.h */
	if (child == 0) {
		setsid();
		pid_t grandchild = process_vfork(); /* NOLINT(clang-analyzer-security.insecureAPI.vfork) */
		if (grandchild == 0)
			become_worker(fd, null, argv);
		_exit(grandchild < 0 ? errno : 0); /* which fits: EAGAIN, ENOMEM */
	}
	int status = 0, why = errno;
	process_unblock_signals(&before);
	if (child < 0)
		return err_set_errno(e, ERR_UNAVAILABLE, why, "cannot fork a worker");
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	if (!WIFEXITED(status))
		return err_set(e, ERR_UNAVAILABLE, "cannot fork a worker: what forks it was killed");
	return WEXITSTATUS(status) ? err_set_errno(e, ERR_UNAVAILABLE, WEXITSTATUS(status), "cannot fork a worker") : 0;
}

int worker_spawn(const char *session, const char *runtime_dir, const char *job, int *out_fd, struct err *e)
{
	char program[] = "tunnel-agent", command[] = "worker", s_flag[] = "--session", d_flag[] = "--runtime-dir";
	char *s = strdup(session), *d = strdup(runtime_dir);
	char *argv[] = { program, command, s_flag, s, d_flag, d, NULL };
	int fds[2] = { -1, -1 }, null = above(open("/dev/null", O_RDWR | O_CLOEXEC), WORKER_FD + 1);
	size_t len = strlen(job);
	int rc;
	if (!s || !d || null < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) {
		rc = err_set_errno(e, ERR_UNAVAILABLE, errno, "cannot make a socket for a worker");
		goto out;
	}
	fds[1] = above(fds[1], WORKER_FD + 1);
	/* A line within LIMIT_AGENT_JOB fits the socket's buffer whole. */
	if (fds[1] < 0 || send(fds[0], job, len, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)len)
		rc = err_set(e, ERR_UNAVAILABLE, "cannot hand a worker its %zu bytes", len);
	else
		rc = fork_twice(fds[1], null, argv, e);
out:
	if (rc && fds[0] >= 0)
		close(fds[0]);
	if (fds[1] >= 0)
		close(fds[1]);
	if (null >= 0)
		close(null);
	free(s);
	free(d);
	if (!rc)
		*out_fd = fds[0];
	return rc;
}
