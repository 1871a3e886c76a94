/* The next key's file is the request; the running agent looks for it when it gets SIGHUP. It is done when the file has
 * become the present key's. */
#include "agent/rotate_key.h"

#include "agent/state.h"
#include "base/clock.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define WAIT_MS 30000
#define LOOK_MS 50

/* A key of another user's could not be read by the agent. */
static int check_owner(const char *folder, struct err *e)
{
	char path[STATE_PATH];
	struct stat st;
	int rc = state_path(folder, "identity.pem", path, e);
	if (!rc && stat(path, &st) != 0)
		rc = err_set_errno(e, ERR_IO, errno, "%s", path);
	if (!rc && st.st_uid != geteuid())
		rc = err_set(e, ERR_DENIED, "%s belongs to uid %u, this is uid %u: run rotate-key as the agent's user",
			     path, (unsigned)st.st_uid, (unsigned)geteuid());
	return rc;
}

static int wait_until_taken(const char *folder, struct err *e)
{
	const struct timespec pause = { .tv_nsec = LOOK_MS * 1000000L };
	for (int64_t by = clock_mono_ms() + WAIT_MS; clock_mono_ms() < by; nanosleep(&pause, NULL))
		if (state_has_next(folder) == 0)
			return 0;
	return err_set(
		e, ERR_TIMEOUT,
		"the server has not taken the new key yet (the agent's log says why); the agent goes on with the "
		"present one and tries again by itself");
}

int rotate_key_run(const struct settings *settings, struct err *e)
{
	const char *folder = settings->state_dir;
	struct state state = { .identity = NULL };
	pid_t agent = 0;
	int rc = state_load(folder, &state, e);
	if (!rc)
		rc = check_owner(folder, e);
	if (!rc)
		rc = state_make_next(folder, e);
	if (!rc)
		rc = state_holder(folder, &agent, e);
	if (!rc && agent == 0) {
		printf("a new key of %s is made; the agent changes to it when it runs\n", state.target);
	} else if (!rc && kill(agent, SIGHUP) != 0) {
		rc = err_set_errno(e, ERR_IO, errno, "the agent (pid %d) cannot be told", (int)agent);
	} else if (!rc) {
		rc = wait_until_taken(folder, e);
		if (!rc)
			printf("%s has a new key; the one before counts no more\n", state.target);
	}
	state_free(&state);
	return rc;
}
