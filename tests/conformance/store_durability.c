/* What was answered is there after kill -9. A child writes as fast as it can and tells each answer through a pipe,
 * after it has it; the parent kills it in the middle, opens the store itself, and looks for everything it was told. */
#include "store_user.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS 4
#define ROUNDS 4
#define MESSAGES_MAX 200000u

struct answer {
	uint32_t thread, n; /* document "d<thread>" had value n, or record {thread, n} */
	uint64_t version;   /* of the put, or the sequence of the append */
	uint32_t is_append;
	uint32_t unused;
};

struct child {
	struct user u;
	char collection[65], log[65];
	int fd;
	uint32_t first;
};

static void write_without_end(void *arg, size_t i)
{
	struct child *c = arg;
	struct user mine = c->u;
	for (uint32_t n = c->first;; n++) {
		char key[16], value[64];
		struct answer a = { .thread = (uint32_t)i, .n = n };
		snprintf(key, sizeof key, "d%zu", i);
		snprintf(value, sizeof value, "%u", n);
		EXPECT_RESULT(&mine, user_put(&mine, c->collection, key, value, TUNNEL_VERSION_ANY, &a.version),
			      TUNNEL_OK);
		EXPECT(write(c->fd, &a, sizeof a) == sizeof a);
		snprintf(value, sizeof value, "{\"t\":%zu,\"n\":%u}", i, n);
		a.is_append = 1;
		EXPECT_RESULT(&mine, user_append(&mine, c->log, value, &a.version), TUNNEL_OK);
		EXPECT(write(c->fd, &a, sizeof a) == sizeof a);
	}
}

struct seen {
	uint64_t next;
	uint32_t *thread_of, *n_of; /* by sequence */
};

static int see_record(void *arg, const struct tunnel_row *row)
{
	struct seen *s = arg;
	EXPECT(row->version == s->next); /* no gap, also where the writer died */
	EXPECT(sscanf(row->value, "{\"t\":%u,\"n\":%u}", &s->thread_of[s->next], &s->n_of[s->next]) == 2);
	s->next++;
	return 0;
}

static void read_log(struct user *u, const char *log, struct seen *s)
{
	s->next = 1;
	for (uint64_t before = 0; before != s->next;) {
		before = s->next;
		struct tunnel_call call = suite_call(u->words, sizeof u->words);
		EXPECT_RESULT(u, plugin_store_read_blocking(u->p, &call, log, s->next, 1000, see_record, s), TUNNEL_OK);
		EXPECT(s->next < MESSAGES_MAX);
	}
}

/* Runs a child, kills it after `enough` answers, returns all answers it told. */
static size_t write_and_kill(struct child *c, size_t enough, struct answer *answers)
{
	int ends[2];
	size_t have = 0;
	EXPECT(pipe(ends) == 0);
	pid_t pid = fork();
	EXPECT(pid >= 0);
	if (pid == 0) {
		close(ends[0]);
		c->fd = ends[1];
		c->u = user_open();
		suite_threads(THREADS, write_without_end, c);
		_exit(1);
	}
	close(ends[1]);
	FILE *f = fdopen(ends[0], "r");
	EXPECT(f != NULL);
	while (have < MESSAGES_MAX && fread(&answers[have], sizeof *answers, 1, f) == 1)
		if (++have == enough)
			kill(pid, SIGKILL);
	fclose(f);
	int status = 0;
	EXPECT(waitpid(pid, &status, 0) == pid);
	EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	return have;
}

static void check_documents(struct user *u, const char *collection, const struct answer *answers, size_t have)
{
	struct answer last[THREADS] = { { 0 } };
	for (size_t i = 0; i < have; i++)
		if (!answers[i].is_append && answers[i].version > last[answers[i].thread].version)
			last[answers[i].thread] = answers[i];
	for (uint32_t t = 0; t < THREADS; t++) {
		char key[16];
		struct doc d;
		snprintf(key, sizeof key, "d%u", t);
		if (last[t].version == 0)
			continue;
		EXPECT_RESULT(u, user_get(u, collection, key, &d), TUNNEL_OK);
		/* the put after the last answered one may or may not have happened */
		bool same = d.version == last[t].version && atoi(d.value) == (int)last[t].n;
		bool next = d.version == last[t].version + 1 && atoi(d.value) == (int)last[t].n + 1;
		if (!same && !next)
			suite_fail(__FILE__, __LINE__, "%s: value %s, version %llu; answered were %u, version %llu",
				   key, d.value, (unsigned long long)d.version, last[t].n,
				   (unsigned long long)last[t].version);
		doc_free(&d);
	}
}

static void check_records(struct user *u, const char *log, const struct answer *answers, size_t have)
{
	struct seen s = { .thread_of = calloc(MESSAGES_MAX, sizeof(uint32_t)),
			  .n_of = calloc(MESSAGES_MAX, sizeof(uint32_t)) };
	EXPECT(s.thread_of && s.n_of);
	read_log(u, log, &s);
	for (size_t i = 0; i < have; i++) {
		const struct answer *a = &answers[i];
		if (!a->is_append)
			continue;
		if (a->version >= s.next || s.thread_of[a->version] != a->thread || s.n_of[a->version] != a->n)
			suite_fail(__FILE__, __LINE__, "record %llu of thread %u was answered and is not there",
				   (unsigned long long)a->version, a->thread);
	}
	free(s.thread_of);
	free(s.n_of);
}

static void answered_writes_survive_kill(void)
{
	suite_needs_durability();
	struct child c = { .fd = -1, .first = 1 };
	struct answer *answers = calloc(MESSAGES_MAX, sizeof *answers);
	EXPECT(answers != NULL);
	suite_name("docs", c.collection);
	suite_name("journal", c.log);
	size_t total = 0;
	for (uint32_t round = 0; round < ROUNDS; round++) {
		c.first = round * 50000 + 1;
		size_t have = write_and_kill(&c, 50 + 150 * round, answers + total);
		EXPECT(have >= 50);
		struct user u = user_open();
		check_documents(&u, c.collection, answers + total, have); /* the newest of each */
		total += have;
		check_records(&u, c.log, answers, total); /* those of all rounds */
		user_close(&u);
	}
	free(answers);
}

const struct suite_case store_durability_cases[] = {
	CASE(answered_writes_survive_kill),
	CASES_END,
};
