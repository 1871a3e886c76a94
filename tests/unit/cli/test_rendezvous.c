#include "support/case.h"

#include "cli/rendezvous.h"
#include "cli/unixsock.h"

#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[64];

static int set_up(void **state)
{
	(void)state;
	snprintf(folder, sizeof folder, "/tmp/rendezvous-XXXXXX");
	return mkdtemp(folder) ? 0 : -1;
}

static int tear_down(void **state)
{
	char command[100];
	(void)state;
	snprintf(command, sizeof command, "rm -r '%s'", folder);
	return system(command);
}

/* A process that has joined; it leaves when it is written to. */
struct other {
	pid_t pid;
	int in, out;
};

static void be_other(int in, int out)
{
	struct rendezvous r = { .own = "" };
	char byte = 'j';
	int fd = rendezvous_join(&r, folder, "agent", NULL);
	if (fd < 0 || write(out, &byte, 1) != 1 || read(in, &byte, 1) < 0)
		_exit(1);
	rendezvous_leave(&r);
	_exit(0);
}

static struct other join_other(void)
{
	struct other o;
	int to[2], from[2];
	char byte;
	assert_int_equal(pipe(to) | pipe(from), 0);
	o.pid = fork();
	if (o.pid == 0) {
		close(to[1]);
		be_other(to[0], from[1]);
	}
	close(to[0]);
	close(from[1]);
	o.in = to[1];
	o.out = from[0];
	assert_int_equal(read(o.out, &byte, 1), 1);
	return o;
}

static void end_other(struct other *o, bool killed)
{
	if (killed)
		kill(o->pid, SIGKILL);
	else
		assert_int_equal(write(o->in, "e", 1), 1);
	close(o->in);
	assert_int_equal(waitpid(o->pid, NULL, 0), o->pid);
	close(o->out);
}

static const char *path_of(const char *name)
{
	static char path[160];
	snprintf(path, sizeof path, "%s/%s", folder, name);
	return path;
}

static pid_t holder(void)
{
	char to[64];
	ssize_t n = readlink(path_of("agent"), to, sizeof to - 1);
	if (n < 6)
		return -1;
	to[n] = '\0';
	return (pid_t)atol(to + 6);
}

static bool answers(void)
{
	int fd = unixsock_connect(path_of("agent"), NULL);
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static void test_the_newest_has_the_name_and_passes_it_on(void **state)
{
	(void)state;
	struct other a = join_other(), b = join_other();
	assert_int_equal(holder(), b.pid);
	assert_true(answers());
	end_other(&b, false);
	assert_int_equal(holder(), a.pid);
	assert_true(answers());
	end_other(&a, false);
	assert_int_not_equal(access(path_of("agent"), F_OK), 0);
	assert_int_equal(rmdir(folder), 0); /* nothing is left */
	assert_int_equal(mkdir(folder, 0700), 0);
}

static void test_who_is_not_the_newest_leaves_alone(void **state)
{
	(void)state;
	struct other a = join_other(), b = join_other();
	end_other(&a, false);
	assert_int_equal(holder(), b.pid);
	assert_true(answers());
	end_other(&b, false);
}

static void test_the_killed_are_swept_away(void **state)
{
	(void)state;
	struct other a = join_other(), b = join_other(), c;
	char left[32];
	snprintf(left, sizeof left, "agent.%ld", (long)b.pid);
	end_other(&b, true);
	assert_false(answers());
	c = join_other();
	assert_int_equal(holder(), c.pid);
	assert_int_not_equal(access(path_of(left), F_OK), 0);
	end_other(&c, false);
	assert_int_equal(holder(), a.pid);
	end_other(&a, false);
}

static void test_only_its_user_may_connect(void **state)
{
	(void)state;
	struct rendezvous r = { .own = "" };
	struct stat st;
	int fd = rendezvous_join(&r, folder, "agent", NULL);
	assert_true(fd >= 0);
	assert_int_equal(stat(path_of("agent"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	rendezvous_leave(&r);
	rendezvous_leave(&r);
	close(fd);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_the_newest_has_the_name_and_passes_it_on, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_who_is_not_the_newest_leaves_alone, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_the_killed_are_swept_away, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_only_its_user_may_connect, set_up, tear_down),
	};
	return RUN_CASES(tests);
}
