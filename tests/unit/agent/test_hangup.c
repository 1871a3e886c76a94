#include "support/case.h"

#include "agent/hangup.h"

#include <fcntl.h>
#include <pty.h>
#include <stdbool.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* Processes of a case, in shared memory so that each can name the ones it starts. */
enum who { SSHD, SERVER, LEADER, MEMBER, DAEMON, NOHUP, OTHER, WHO };
static volatile pid_t *pids;

static void start(enum who who, bool session, void (*then)(void))
{
	if (fork() != 0)
		return;
	if (session)
		setsid();
	if (then)
		then();
	pids[who] = getpid(); /* last: what it starts is there */
	for (;;)
		pause();
}

static void await(enum who who)
{
	while (!pids[who])
		usleep(1000);
}

static void ignore_hangup(void)
{
	signal(SIGHUP, SIG_IGN);
}

static void stand_still(void)
{
	pids[MEMBER] = getpid();
	raise(SIGSTOP);
}

static void run_command(void)
{
	start(MEMBER, false, stand_still);
	start(DAEMON, true, NULL);
	start(NOHUP, false, ignore_hangup);
	await(MEMBER), await(DAEMON), await(NOHUP);
}

static void serve_login(void)
{
	start(LEADER, true, run_command);
	await(LEADER);
}

static void be_root_sshd(void)
{
	serve_login();
}

static void be_sshd(void)
{
	start(OTHER, true, NULL); /* as pam_exec does */
	start(SERVER, false, serve_login);
	await(OTHER), await(SERVER);
}

static int set_up(void **state)
{
	(void)state;
	pids = mmap(NULL, WHO * sizeof *pids, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return pids == MAP_FAILED || prctl(PR_SET_CHILD_SUBREAPER, 1) != 0;
}

static int tear_down(void **state)
{
	(void)state;
	for (int i = 0; i < WHO; i++)
		if (pids[i])
			kill(pids[i], SIGKILL);
	while (wait(NULL) > 0)
		;
	return munmap((void *)(uintptr_t)pids, WHO * sizeof *pids);
}

static void end(enum who who)
{
	kill(pids[who], SIGKILL);
	assert_int_equal(waitpid(pids[who], NULL, 0), pids[who]);
	pids[who] = 0;
}

static void assert_hung_up(enum who who)
{
	int status = 0;
	assert_int_equal(waitpid(pids[who], &status, 0), pids[who]);
	pids[who] = 0;
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGHUP);
}

static void assert_lives(enum who who)
{
	assert_int_equal(kill(pids[who], 0), 0);
	assert_int_equal(waitpid(pids[who], NULL, WNOHANG), 0);
}

static void hang_up_after(void (*sshd)(void), bool server)
{
	struct hangup h = { .count = 0 };
	start(SSHD, true, sshd);
	await(SSHD);
	hangup_look(&h, pids[SSHD]);
	hangup_look(&h, pids[SSHD]); /* what is known is not noted twice */
	assert_int_equal(h.count, 1);
	assert_int_equal(h.leaders[0].pid, pids[LEADER]);
	end(SSHD);
	if (server)
		end(SERVER);
	assert_int_equal(hangup_now(&h), 1);
	assert_hung_up(LEADER);
	assert_hung_up(MEMBER);
	assert_lives(DAEMON);
	assert_lives(NOHUP);
	assert_int_equal(hangup_now(&h), 0);
}

static void test_commands_of_a_login(void **state)
{
	(void)state;
	hang_up_after(be_sshd, true);
	assert_lives(OTHER);
}

static void test_commands_of_root(void **state)
{
	(void)state;
	hang_up_after(be_root_sshd, false);
}

static void test_what_an_ended_command_left_lives(void **state)
{
	(void)state;
	struct hangup h = { .count = 0 };
	start(SSHD, true, be_root_sshd);
	await(SSHD);
	hangup_look(&h, pids[SSHD]);
	assert_int_equal(h.count, 1);
	end(SSHD);
	end(LEADER);
	assert_int_equal(hangup_now(&h), 0);
	assert_lives(NOHUP);
	assert_lives(MEMBER);
}

static void test_a_later_process_of_the_same_number_lives(void **state)
{
	(void)state;
	struct hangup h = { .count = 0 };
	start(SSHD, true, be_root_sshd);
	await(SSHD);
	hangup_look(&h, pids[SSHD]);
	end(SSHD);
	h.leaders[0].started--;
	assert_int_equal(hangup_now(&h), 0);
	assert_lives(LEADER);
}

static void run_on_a_terminal(void)
{
	int master;
	pid_t pid = forkpty(&master, NULL, NULL, NULL); /* a session of its own, and its terminal */
	if (pid == 0) {
		pids[LEADER] = getpid();
		for (;;)
			pause();
	}
	await(LEADER);
}

static void test_a_terminal_is_left_to_the_kernel(void **state)
{
	(void)state;
	struct hangup h = { .count = 0 };
	start(SSHD, true, run_on_a_terminal);
	await(SSHD);
	hangup_look(&h, pids[SSHD]);
	assert_int_equal(h.count, 0);
}

static void test_an_sshd_that_is_gone(void **state)
{
	(void)state;
	struct hangup h = { .count = 0 };
	hangup_look(&h, 0);
	assert_int_equal(h.count, 0);
	assert_int_equal(hangup_now(&h), 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_commands_of_a_login, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_commands_of_root, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_what_an_ended_command_left_lives, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_later_process_of_the_same_number_lives, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_terminal_is_left_to_the_kernel, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_an_sshd_that_is_gone, set_up, tear_down),
	};
	return RUN_CASES(tests);
}
