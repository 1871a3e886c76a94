/* Searches of the audit log through the API, page after page, and the same by a second search that looks at each
 * record. The first line of the input is the query of GET /v1/audit. Each further one is a run of records that the log
 * has: how many of them, up to 1000, and the record, with ' for "; "! n" lets the store fail behind n readings.
 *
 * Whatever way and in whatever pages somebody reads: he gets those that match, each once, in their order and as they
 * are, and is told that there are no more when that is so. No page is larger than our clients accept, and none stops
 * before it is full but for what a search may look at or answer. */
#include "fuzz.h"
#include "service.h"

#include "base/clock.h"
#include "base/limits.h"
#include "base/text.h"
#include "server/audit.h"
#include "server/store.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define RUNS_MAX 40u
#define COUNT_MAX 1000u
#define PAGES_MAX 10u    /* of one search that are read */
#define LOOKED_AT 32000u /* records that a search looks at, if it does not find enough */
#define DAY_MS (24 * 3600 * 1000LL)

struct run {
	uint64_t first, count;
	json_t *record;
	bool matches, old, timed;
	size_t text; /* bytes of it with its number, but for the number's digits */
	int64_t at_ms;
};

static struct run runs[RUNS_MAX];
static size_t run_n;
static uint64_t end;       /* the log's last number */
static int64_t reads_left; /* before the store fails; -1: it does not */
static uint64_t rows;

int __real_store_read_blocking(struct store *store, const char *log, uint64_t from, uint32_t limit, store_doc_fn *fn,
			       void *arg, struct err *e);
int __wrap_store_read_blocking(struct store *store, const char *log, uint64_t from, uint32_t limit, store_doc_fn *fn,
			       void *arg, struct err *e);

static const struct run *run_of(uint64_t seq)
{
	size_t i = 0;
	while (i < run_n && seq >= runs[i].first + runs[i].count)
		i++;
	return i < run_n ? &runs[i] : NULL;
}

/* The log is here, all else is in the fake. */
int __wrap_store_read_blocking(struct store *store, const char *log, uint64_t from, uint32_t limit, store_doc_fn *fn,
			       void *arg, struct err *e)
{
	if (strcmp(log, AUDIT_LOG) != 0)
		return __real_store_read_blocking(store, log, from, limit, fn, arg, e);
	if (reads_left == 0)
		return err_set(e, ERR_UNAVAILABLE, "the store is away");
	reads_left -= reads_left > 0;
	for (uint64_t seq = from ? from : 1; limit-- && seq <= end; seq++) {
		rows++;
		if (fn(arg, "", run_of(seq)->record, seq) != 0)
			break;
	}
	return 0;
}

/* ---- what is asked for ---- */

struct asked {
	json_t *parameters; /* name -> value, decoded */
	bool backward;
	int64_t from, limit; /* from: of a backward search, before */
	int64_t since_ms, until_ms;
};

static const char *parameter(const struct asked *q, const char *name)
{
	return json_string_value(json_object_get(q->parameters, name));
}

/* In its place. */
static bool decode(char *text, size_t max)
{
	char *out = text;
	for (const char *in = text; *in; in++) {
		int c = *in == '+' ? ' ' : (unsigned char)*in;
		if (c == '%') {
			char digits[3] = { in[1], in[1] ? in[2] : '\0', '\0' };
			if (!isxdigit((unsigned char)digits[0]) || !isxdigit((unsigned char)digits[1]))
				return false;
			c = (int)strtol(digits, NULL, 16);
			in += 2;
		}
		if (c == 0)
			return false;
		*out++ = (char)c;
	}
	*out = '\0';
	return strlen(text) <= max && text_is_utf8(text, strlen(text));
}

static bool is_known(const char *name)
{
	static const char *const all[] = { "from",      "limit",  "tail",  "before", "session",
					   "principal", "target", "event", "since",  "until" };
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		if (strcmp(all[i], name) == 0)
			return true;
	return false;
}

static bool read_parameters(const char *query, json_t *out)
{
	char *copy = strdup(query), *rest = copy, *part;
	bool good = true;
	while (good && (part = strsep(&rest, "&"))) {
		if (!*part || strncmp(part, "X-Amz-", 6) == 0)
			continue;
		char *equals = strchr(part, '='), *value = equals ? equals + 1 : part + strlen(part);
		if (equals)
			*equals = '\0';
		good = decode(part, LIMIT_TAG_TEXT + 15) && decode(value, 1023) && is_known(part) &&
		       !json_object_get(out, part);
		if (good)
			json_object_set_new(out, part, json_string(value));
	}
	free(copy);
	return good;
}

static bool number(const struct asked *q, const char *name, int64_t min, int64_t max, int64_t *out)
{
	const char *text = parameter(q, name);
	return !text || text_parse_int(text, min, max, out) == 0;
}

static bool instant(const struct asked *q, const char *name, int64_t *out)
{
	const char *text = parameter(q, name);
	return !text || clock_parse(text, out) == 0;
}

/* false: that cannot be asked for. */
static bool read_query(const char *query, struct asked *q)
{
	static const char *const names[] = { "session", "principal", "target", "event" };
	*q = (struct asked){ .parameters = json_object(), .from = 1, .limit = 100 };
	bool good = read_parameters(query, q->parameters);
	q->backward = parameter(q, "tail") != NULL;
	if (q->backward)
		q->from = INT64_MAX;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		good = good && (!parameter(q, names[i]) || *parameter(q, names[i]));
	good = good && (q->backward ? !parameter(q, "from") && !parameter(q, "limit") : !parameter(q, "before"));
	good = good && number(q, q->backward ? "tail" : "limit", 1, LIMIT_SCAN_PAGE, &q->limit);
	good = good && number(q, q->backward ? "before" : "from", q->backward ? 1 : 0, INT64_MAX, &q->from);
	return good && instant(q, "since", &q->since_ms) && instant(q, "until", &q->until_ms);
}

/* The same query from another number on, all of it in escapes. */
static char *query_from(const struct asked *q, uint64_t from)
{
	char *text = NULL;
	size_t size;
	const char *name;
	json_t *value;
	FILE *f = open_memstream(&text, &size);
	fprintf(f, q->backward ? "tail=%" PRId64 "&before=%" PRIu64 : "limit=%" PRId64 "&from=%" PRIu64, q->limit,
		from);
	json_object_foreach(q->parameters, name, value)
	{
		if (strchr("ftlb", name[0]) && strcmp(name, "target") != 0)
			continue;
		fprintf(f, "&%s=", name);
		for (const char *c = json_string_value(value); *c; c++)
			fprintf(f, "%%%02x", (unsigned char)*c);
	}
	fclose(f);
	return text;
}

/* ---- which records match ---- */

static bool is(const json_t *record, const char *key, const char *prefix, const char *value)
{
	const char *text = json_string_value(json_object_get(record, key));
	size_t n = strlen(prefix);
	return text && strlen(text) == n + strlen(value) && strncmp(text, prefix, n) == 0 &&
	       strcmp(text + n, value) == 0;
}

/* reached[i]: the first i letters of the pattern can have taken all of the text so far. */
static bool is_like(const char *text, const char *pattern)
{
	bool reached[1025] = { true }, next[1025];
	size_t n = strlen(pattern);
	for (size_t i = 0; i < n && pattern[i] == '*'; i++)
		reached[i + 1] = true;
	for (; *text; text++, memcpy(reached, next, sizeof next)) {
		next[0] = false;
		for (size_t i = 0; i < n; i++)
			next[i + 1] = pattern[i] == '*' ? reached[i + 1] || next[i]
							: reached[i] && (pattern[i] == '?' || pattern[i] == *text);
	}
	return reached[n];
}

static bool is_wanted(const struct asked *q, const struct run *r)
{
	const char *session = parameter(q, "session"), *target = parameter(q, "target"), *like = parameter(q, "event");
	const char *who = parameter(q, "principal"), *event = json_string_value(json_object_get(r->record, "event"));
	return (!session || is(r->record, "session", "", session) || is(r->record, "resource", "session/", session)) &&
	       (!target || is(r->record, "target", "", target) || is(r->record, "resource", "target/", target)) &&
	       (!who || is(r->record, "principal", "", who) || is(r->record, "subject", "", who) ||
		is(r->record, "by", "", who)) &&
	       (!like || (event && is_like(event, like))) &&
	       (!r->timed || ((!parameter(q, "since") || r->at_ms >= q->since_ms) &&
			      (!parameter(q, "until") || r->at_ms < q->until_ms)));
}

static void judge(const struct asked *q)
{
	for (size_t i = 0; i < run_n; i++) {
		struct run *r = &runs[i];
		const char *at = json_string_value(json_object_get(r->record, "at"));
		r->timed = at && clock_parse(at, &r->at_ms) == 0;
		r->old = r->timed && parameter(q, "since") && r->at_ms + DAY_MS < q->since_ms;
		r->matches = is_wanted(q, r);
		json_auto_t *numbered = json_copy(r->record);
		json_object_set_new(numbered, "seq", json_integer(0));
		r->text = json_dumpb(numbered, NULL, 0, JSON_COMPACT) - 1;
	}
}

/* The next one that matches, from seq on, or down from it. 0: none. */
static uint64_t next_match(uint64_t seq, bool down)
{
	const struct run *r = seq ? run_of(seq) : NULL;
	while (r && !r->matches && r != (down ? runs : &runs[run_n - 1])) {
		r += down ? -1 : 1;
		seq = down ? r->first + r->count - 1 : r->first;
	}
	return r && r->matches ? seq : 0;
}

static size_t text_of(uint64_t seq)
{
	char digits[24];
	return run_of(seq)->text + (size_t)snprintf(digits, sizeof digits, "%" PRIu64, seq);
}

/* ---- an answer ---- */

struct found {
	const json_t *records;
	size_t n, text;
	uint64_t next_from, next_before;
	bool at_end;
};

/* Is it that record, with its number and nothing else? */
static void check_record(const json_t *got, uint64_t seq)
{
	json_auto_t *expected = json_copy(run_of(seq)->record);
	json_object_set_new(expected, "seq", json_integer((json_int_t)seq));
	FUZZ_CHECK(json_equal(got, expected));
}

static void check_why_it_stopped(const struct asked *q, const struct found *f, uint64_t looked_at, uint64_t more)
{
	bool enough = f->n == (size_t)q->limit || looked_at >= LOOKED_AT;
	FUZZ_CHECK(enough || (more && f->n && f->text + text_of(more) > LIMIT_HTTP_RESPONSE / 2));
}

/* Returns where to go on, or 0. */
static uint64_t check_forward(const struct asked *q, struct found *f, uint64_t from)
{
	uint64_t seq = from;
	for (size_t i = 0; i < f->n; i++, seq++) {
		seq = next_match(seq, false);
		FUZZ_CHECK(seq);
		check_record(json_array_get(f->records, i), seq);
		f->text += text_of(seq);
	}
	uint64_t more = next_match(seq, false);
	FUZZ_CHECK(f->next_from >= seq && (!more || f->next_from <= more));
	if (f->at_end) {
		FUZZ_CHECK(!more && (f->next_from == end + 1 || f->next_from == from));
		return 0;
	}
	FUZZ_CHECK(f->next_from > from && f->next_from <= end + 1);
	check_why_it_stopped(q, f, f->next_from - from, more);
	return f->next_from;
}

/* A thousand in one piece that are too old for the search, above the one that it did not look for any more. */
static bool may_give_up(uint64_t above, uint64_t below)
{
	unsigned in_one_piece = 0;
	for (uint64_t seq = above + 1; seq < below && in_one_piece < LIMIT_SCAN_PAGE; seq++)
		in_one_piece = run_of(seq)->old ? in_one_piece + 1 : 0;
	return in_one_piece == LIMIT_SCAN_PAGE;
}

static uint64_t check_backward(const struct asked *q, struct found *f, uint64_t before)
{
	uint64_t top = before > end ? end + 1 : before, seq = top;
	FUZZ_CHECK(f->next_from == top);
	for (size_t i = f->n; i > 0; i--) {
		seq = next_match(seq - 1, true);
		FUZZ_CHECK(seq);
		check_record(json_array_get(f->records, i - 1), seq);
		f->text += text_of(seq);
	}
	uint64_t more = next_match(seq - 1, true);
	if (!f->next_before) {
		FUZZ_CHECK(!more || may_give_up(more, top));
		return 0;
	}
	FUZZ_CHECK(f->next_before < top && f->next_before <= seq && f->next_before > more);
	check_why_it_stopped(q, f, top - f->next_before, more);
	return f->next_before;
}

static uint64_t ask(const struct asked *q, struct world *w, const char *query, uint64_t from)
{
	rows = 0;
	struct answer a = call(w, "GET", "/v1/audit", query, "alice", NULL);
	FUZZ_CHECK(rows <= LOOKED_AT + 64);
	if (reads_left == 0 && a.status == 503) {
		answer_free(&a);
		return 0;
	}
	FUZZ_CHECK(a.status == 200 && a.raw.body_len <= LIMIT_HTTP_RESPONSE);
	const json_t *records = json_object_get(a.json, "records");
	struct found f = { .records = records,
			   .n = json_array_size(records),
			   .next_from = (uint64_t)json_integer_value(json_object_get(a.json, "next_from")),
			   .next_before = (uint64_t)json_integer_value(json_object_get(a.json, "next_before")),
			   .at_end = json_is_true(json_object_get(a.json, "at_end")) };
	FUZZ_CHECK(json_is_array(records) && f.n <= (size_t)q->limit);
	uint64_t next = q->backward ? check_backward(q, &f, from) : check_forward(q, &f, from);
	FUZZ_CHECK(f.n <= 1 || f.text <= LIMIT_HTTP_RESPONSE / 2);
	answer_free(&a);
	return next;
}

static void search(struct world *w, const char *query)
{
	struct asked q;
	if (!read_query(query, &q)) {
		struct answer a = call(w, "GET", "/v1/audit", query, "alice", NULL);
		FUZZ_CHECK(a.status == 400);
		answer_free(&a);
	} else {
		judge(&q);
		uint64_t from = q.from ? (uint64_t)q.from : 1;
		from = ask(&q, w, query, from);
		for (size_t i = 0; from && i < PAGES_MAX; i++) {
			char *next = query_from(&q, from);
			from = ask(&q, w, next, from);
			free(next);
		}
	}
	json_decref(q.parameters);
}

/* ---- the log ---- */

static void add_run(char *line)
{
	char *text = line + strspn(line, "0123456789");
	uint64_t count = strtoull(line, NULL, 10);
	if (line[0] == '!') {
		reads_left = atoi(line + 1) & 0xff;
		return;
	}
	for (char *c = text; *c; c++)
		if (*c == '\'')
			*c = '"';
	json_t *record = json_loads(text, 0, NULL);
	if (!json_is_object(record) || run_n == RUNS_MAX) {
		json_decref(record);
		return;
	}
	count = count < 1 ? 1 : count > COUNT_MAX ? COUNT_MAX : count;
	runs[run_n++] = (struct run){ .first = end + 1, .count = count, .record = record };
	end += count;
}

/* A server whose log is empty; its keys and policies stay. */
static struct world *server(void)
{
	static struct world *w;
	struct err e;
	if (!w)
		w = world_up();
	audit_close(&w->server.audit);
	store_del_blocking(w->server.store, "audit_heads", w->server.node, TUNNEL_VERSION_ANY, &e);
	FUZZ_CHECK(audit_open_blocking(&w->server, &w->server.audit, &e) == 0);
	return w;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	char *query = fuzz_part(&in, '\n');
	reads_left = -1;
	end = 0;
	struct world *w = server();
	while (in.left) {
		char *line = fuzz_part(&in, '\n');
		add_run(line);
		free(line);
	}
	search(w, query);
	free(query);
	while (run_n)
		json_decref(runs[--run_n].record);
	return 0;
}
