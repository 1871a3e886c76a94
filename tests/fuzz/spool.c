/* The agent's spool of reports, read back from what a disk has made of it.
 *
 * "R" and bytes: the file has these. What is read must be what a slow reader makes of them, a line at a time up to the
 * first that is none; then the spool works.
 *
 * "S" and a script: workers a to d report, and repeat to each new supervisor what it has not acknowledged.
 *   a:worker n   a report with n * 16 bytes       y          sync: what is durable is acknowledged to its worker
 *   f:worker     the worker is gone               k n        the server has the first n that were sent
 *   c n          a crash that loses the last n bytes of those that were not synced
 *   z m n        a crash that leaves zeros in place of n bytes, m bytes behind what was synced; the rest is there
 * No report that was acknowledged to its worker is ever lost, before the server has it; none comes in another form, out
 * of order or with a number that was another one's. */
#include "fuzz.h"

#include "agent/name.h"
#include "agent/spool.h"
#include "base/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define REPORTS_MAX 120u
#define WORKERS 4u

int __wrap_fsync(int fd);
int __wrap_fdatasync(int fd);

static char path[128];

/* A crash is what a script makes of it. */
int __wrap_fsync(int fd)
{
	(void)fd;
	return 0;
}

int __wrap_fdatasync(int fd)
{
	(void)fd;
	return 0;
}

static struct spool *open_spool(void)
{
	struct spool *s = NULL;
	struct err e = { 0 };
	int rc = spool_open(path, &s, &e);
	FUZZ_CHECK(rc == 0 && s);
	return s;
}

/* ---- a file with any content ---- */

/* Whether s has that many reports, and these. */
static bool has(const struct spool *s, const json_t *expected)
{
	uint64_t at = 0, seq;
	const char *text;
	size_t n = 0;
	for (; (text = spool_next(s, at, &seq)); n++) {
		json_auto_t *message = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
		FUZZ_CHECK(seq > at && message && json_equal(message, json_array_get(expected, n)));
		FUZZ_CHECK((uint64_t)json_integer_value(json_object_get(message, "seq")) == seq);
		at = seq;
	}
	return n == json_array_size(expected);
}

static void drop_up_to(json_t *messages, json_int_t seq)
{
	for (size_t i = 0; i < json_array_size(messages);)
		if (json_integer_value(json_object_get(json_array_get(messages, i), "seq")) <= seq)
			json_array_remove(messages, i);
		else
			i++;
}

static void read_line(const json_t *line, json_t *messages)
{
	json_t *body = json_object_get(line, "body");
	const char *session = json_string_value(json_object_get(line, "session"));
	json_int_t seq = json_integer_value(json_object_get(line, "seq"));
	drop_up_to(messages, json_integer_value(json_object_get(line, "ack")));
	if (!json_is_object(body) || !session || strlen(session) >= WORKER_NAME || seq <= 0 || seq > SPOOL_SEQ_MAX)
		return;
	json_t *message = json_copy(body);
	json_object_set_new(message, "seq", json_integer(seq));
	json_array_append_new(messages, message);
}

/* Every message in the file, whatever its number. */
static json_t *read_slowly(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	json_t *messages = json_array();
	while (in.left && memchr(in.at, '\n', in.left)) {
		const uint8_t *start = in.at;
		char *text = fuzz_part(&in, '\n');
		json_t *line = NULL;
		bool good = json_parse(text, (size_t)(in.at - start) - 1, &line, NULL) == 0;
		free(text);
		if (!good)
			break;
		read_line(line, messages);
		json_decref(line);
	}
	return messages;
}

/* What is sent goes up in number; what a foreign file has out of order stays where it is until it is acknowledged. */
static void leave_what_is_in_order(json_t *messages)
{
	json_int_t at = 0;
	for (size_t i = 0; i < json_array_size(messages);) {
		json_int_t seq = json_integer_value(json_object_get(json_array_get(messages, i), "seq"));
		if (seq > at) {
			at = seq;
			i++;
		} else
			json_array_remove(messages, i);
	}
}

/* It takes a further report, and still has it afterwards. */
static void check_works(struct spool **s, json_t *messages)
{
	struct err e = { 0 };
	json_auto_t *body = json_pack("{s:s}", "type", "session-closed");
	uint64_t before = 0, seq;
	while (spool_next(*s, before, &seq))
		before = seq;
	uint64_t number = spool_last_number(*s, "s-new") + 1;
	FUZZ_CHECK(spool_add(*s, "s-new", number, body, &e) == 0 && spool_sync(*s, &e) == 0);
	FUZZ_CHECK(spool_next(*s, before, &seq) && seq > before && seq <= INT64_MAX);
	json_object_set_new(body, "seq", json_integer((json_int_t)seq));
	json_array_append(messages, body);
	spool_close(s);
	*s = open_spool();
	FUZZ_CHECK(has(*s, messages) && spool_last_number(*s, "s-new") == number);
	spool_ack(*s, seq);
	FUZZ_CHECK(!spool_next(*s, 0, &seq));
}

static void check_any_file(const uint8_t *data, size_t size)
{
	json_auto_t *messages = read_slowly(data, size);
	leave_what_is_in_order(messages);
	fuzz_put(path, data, size);
	struct spool *s = open_spool();
	FUZZ_CHECK(has(s, messages));
	spool_close(&s);
	s = open_spool();
	FUZZ_CHECK(has(s, messages));
	check_works(&s, messages);
	spool_close(&s);
}

/* ---- a crash ---- */

struct report {
	unsigned worker;
	uint64_t number, seq; /* seq 0: not sent yet */
	json_t *body;
	bool safe; /* acknowledged to its worker */
	bool done; /* the server has it */
};

struct agent {
	struct spool *spool;
	struct report reports[REPORTS_MAX];
	size_t n;
	uint64_t numbers[WORKERS]; /* of each one's newest report */
	uint64_t sent;             /* the highest seq that was */
	size_t synced;             /* bytes of the file */
	ino_t file;                /* as it was when that was last looked at */
};

/* A file that was written anew is durable as a whole. */
static void look_at_file(struct agent *a, bool synced)
{
	struct stat st;
	FUZZ_CHECK(stat(path, &st) == 0);
	if (synced || st.st_ino != a->file)
		a->synced = (size_t)st.st_size;
	a->file = st.st_ino;
}

static void name_worker(unsigned worker, char out[8])
{
	snprintf(out, 8, "s-%c", (int)('a' + worker));
}

static void hand_over(struct agent *a, const struct report *r)
{
	char name[8];
	struct err e = { 0 };
	name_worker(r->worker, name);
	FUZZ_CHECK(spool_add(a->spool, name, r->number, r->body, &e) == 0);
}

static void add_report(struct agent *a, unsigned worker, unsigned size)
{
	char filler[256 * 16 + 1];
	if (a->n == REPORTS_MAX)
		return;
	struct report *r = &a->reports[a->n++];
	memset(filler, 'x', sizeof filler);
	filler[size * 16] = '\0';
	*r = (struct report){ .worker = worker, .number = ++a->numbers[worker] };
	r->body = json_pack("{s:s, s:i, s:i, s:s}", "type", "stream-opened", "worker", (int)worker, "number",
			    (int)r->number, "filler", filler);
	hand_over(a, r);
}

static struct report *report_of(struct agent *a, const json_t *message)
{
	unsigned worker = (unsigned)json_integer_value(json_object_get(message, "worker"));
	uint64_t number = (uint64_t)json_integer_value(json_object_get(message, "number"));
	for (size_t i = 0; i < a->n; i++)
		if (a->reports[i].worker == worker && a->reports[i].number == number)
			return &a->reports[i];
	return NULL;
}

/* All that is sent was reported, in that form, and has the number that it was sent with before. */
static void check_sent(struct agent *a)
{
	uint64_t at = 0, seq, last[WORKERS] = { 0 };
	const char *text;
	bool there[REPORTS_MAX] = { false };
	for (; (text = spool_next(a->spool, at, &seq)); at = seq) {
		json_auto_t *message = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
		struct report *r = report_of(a, message);
		FUZZ_CHECK(r && seq > at && (r->seq ? r->seq == seq : seq > a->sent));
		r->seq = seq;
		a->sent = seq > a->sent ? seq : a->sent;
		json_object_del(message, "seq");
		FUZZ_CHECK(json_equal(message, r->body) && !there[r - a->reports] && r->number > last[r->worker]);
		last[r->worker] = r->number;
		there[r - a->reports] = true;
	}
	for (size_t i = 0; i < a->n; i++)
		FUZZ_CHECK(there[i] || !a->reports[i].safe || a->reports[i].done);
}

static void sync_all(struct agent *a)
{
	struct err e = { 0 };
	FUZZ_CHECK(spool_sync(a->spool, &e) == 0);
	for (size_t i = 0; i < a->n; i++)
		a->reports[i].safe = true;
	look_at_file(a, true);
	check_sent(a);
}

static void acknowledge(struct agent *a, unsigned n)
{
	uint64_t at = 0, seq;
	while (n-- && spool_next(a->spool, at, &seq))
		at = seq;
	if (at == 0)
		return;
	for (size_t i = 0; i < a->n; i++)
		a->reports[i].done = a->reports[i].done || (a->reports[i].seq && a->reports[i].seq <= at);
	spool_ack(a->spool, at);
	look_at_file(a, false);
	check_sent(a);
}

static void forget(struct agent *a, unsigned worker)
{
	char name[8];
	name_worker(worker, name);
	for (size_t i = 0; i < a->n; i++)
		if (a->reports[i].worker == worker && !a->reports[i].safe)
			return; /* it is not gone while it waits for an answer */
	spool_forget(a->spool, name);
	look_at_file(a, false);
}

/* A new supervisor reads what there is, and each worker tells again what nobody has acknowledged. */
static void crash(struct agent *a, size_t hole_at, size_t hole, size_t lost)
{
	size_t size;
	char *text = fuzz_get(path, &size);
	size_t unsynced = size - a->synced;
	spool_close(&a->spool);
	if (hole_at < unsynced)
		memset(text + a->synced + hole_at, 0, hole < unsynced - hole_at ? hole : unsynced - hole_at);
	fuzz_put(path, text, size - (lost < unsynced ? lost : unsynced));
	free(text);
	a->spool = open_spool();
	look_at_file(a, true);
	for (size_t i = 0; i < a->n; i++)
		if (!a->reports[i].safe)
			hand_over(a, &a->reports[i]);
	check_sent(a);
}

static void take_step(struct agent *a, struct fuzz_input *in)
{
	size_t first;
	switch (fuzz_byte(in)) {
	case 'a':
		first = fuzz_byte(in) % WORKERS;
		add_report(a, (unsigned)first, fuzz_byte(in));
		break;
	case 'y':
		sync_all(a);
		break;
	case 'k':
		acknowledge(a, fuzz_byte(in));
		break;
	case 'f':
		forget(a, fuzz_byte(in) % WORKERS);
		break;
	case 'c':
		crash(a, SIZE_MAX, 0, fuzz_byte(in));
		break;
	case 'z':
		first = fuzz_byte(in);
		crash(a, first, fuzz_byte(in), 0);
		break;
	default:
		break;
	}
}

static void check_script(struct fuzz_input *in)
{
	static struct agent a;
	memset(&a, 0, sizeof a);
	remove(path);
	a.spool = open_spool();
	look_at_file(&a, true);
	while (in->left)
		take_step(&a, in);
	crash(&a, SIZE_MAX, 0, 0);
	sync_all(&a);
	acknowledge(&a, REPORTS_MAX);
	FUZZ_CHECK(!spool_next(a.spool, 0, &(uint64_t){ 0 }));
	for (size_t i = 0; i < a.n; i++) {
		FUZZ_CHECK(a.reports[i].done);
		json_decref(a.reports[i].body);
	}
	spool_close(&a.spool);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	snprintf(path, sizeof path, "%s/reports", fuzz_folder());
	if (fuzz_byte(&in) == 'R')
		check_any_file(in.at, in.left);
	else
		check_script(&in);
	return 0;
}
