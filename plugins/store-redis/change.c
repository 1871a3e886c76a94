#include "change.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* A change with its script's first words: keys the fence's and the given ones, then the place for its number. */
struct making {
	struct change *change;
	struct command *c;
	const struct owner *owner;
};

static bool begin(struct making *m, const struct owner *owner, const char *doing, enum script which, size_t keys,
		  size_t words)
{
	m->owner = owner;
	m->change = calloc(1, sizeof *m->change);
	if (!m->change)
		return false;
	m->change->doing = doing;
	m->c = &m->change->command;
	script_begin(m->c, which, false, keys, keys + words);
	command_format(m->c, KEY_FENCE, owner->prefix, owner->instance);
	return true;
}

static void keys_are_named(struct making *m)
{
	static const char digits[FENCE_DIGITS + 1] = "00000000000000000000";
	command_text(m->c, digits);
	m->change->fence_at = m->c->used - FENCE_DIGITS - 2; /* behind it stands the end of a line */
}

static struct change *made(struct making *m)
{
	if (m->c->failed) {
		change_free(m->change);
		return NULL;
	}
	return m->change;
}

static void expected(struct making *m, uint64_t version)
{
	m->change->expect_version = version;
	if (version == TUNNEL_VERSION_ANY)
		command_text(m->c, "");
	else
		command_format(m->c, "%" PRIu64, version);
}

static void document_keys(struct making *m, const char *collection, const char *key)
{
	command_format(m->c, KEY_DOCUMENT, m->owner->prefix, collection, key);
	command_format(m->c, KEY_COLLECTION, m->owner->prefix, collection);
	command_format(m->c, KEY_EXPIRIES, m->owner->prefix);
}

struct change *change_new_put(const struct owner *owner, const struct tunnel_put *put)
{
	struct making m;
	if (!begin(&m, owner, "put", SCRIPT_PUT, 4 + put->index_count, 7 + put->index_count) ||
	    !command_reserve(m.c, put->value_len + 1024))
		return m.change ? made(&m) : NULL;
	document_keys(&m, put->collection, put->key);
	for (size_t i = 0; i < put->index_count; i++)
		command_format(m.c, KEY_ENTRY, owner->prefix, put->collection, put->indexes[i].name,
			       put->indexes[i].value);
	keys_are_named(&m);
	expected(&m, put->expect_version);
	command_format(m.c, "%" PRId64, put->expires_ms);
	command_text(m.c, put->key);
	command_format(m.c, "%s:%s", put->collection, put->key);
	command_format(m.c, KEY_ENTRIES, owner->prefix, put->collection);
	command_bytes(m.c, put->value, put->value_len);
	for (size_t i = 0; i < put->index_count; i++)
		command_format(m.c, "%s:%s", put->indexes[i].name, put->indexes[i].value);
	return made(&m);
}

struct change *change_new_del(const struct owner *owner, const char *collection, const char *key,
			      uint64_t expect_version)
{
	struct making m;
	if (!begin(&m, owner, "del", SCRIPT_DEL, 4, 5))
		return NULL;
	document_keys(&m, collection, key);
	keys_are_named(&m);
	expected(&m, expect_version);
	command_text(m.c, key);
	command_format(m.c, "%s:%s", collection, key);
	command_format(m.c, KEY_ENTRIES, owner->prefix, collection);
	return made(&m);
}

struct change *change_new_append(const struct owner *owner, const char *log, const struct tunnel_record *records,
				 size_t n)
{
	struct making m;
	if (!begin(&m, owner, "append", SCRIPT_APPEND, 2, 1 + n))
		return NULL;
	command_format(m.c, KEY_LOG, owner->prefix, log);
	keys_are_named(&m);
	for (size_t i = 0; i < n; i++)
		command_bytes(m.c, records[i].text, records[i].len);
	return made(&m);
}

struct change *change_new_probe(const struct owner *owner)
{
	struct making m;
	if (!begin(&m, owner, "health", SCRIPT_PROBE, 2, 1))
		return NULL;
	command_format(m.c, KEY_PROBE, owner->prefix);
	keys_are_named(&m);
	return made(&m);
}

struct change *change_new_purge(const struct owner *owner, unsigned most)
{
	struct making m;
	if (!begin(&m, owner, "purge", SCRIPT_PURGE, 2, 3))
		return NULL;
	command_format(m.c, KEY_EXPIRIES, owner->prefix);
	keys_are_named(&m);
	command_format(m.c, "%u", most);
	command_format(m.c, KEY_ALL, owner->prefix);
	return made(&m);
}

void change_free(struct change *c)
{
	if (!c)
		return;
	command_free(&c->command);
	free(c);
}

void change_send(struct change *c, uint64_t fence, struct command *out)
{
	char digits[FENCE_DIGITS + 1];
	snprintf(digits, sizeof digits, "%0*" PRIu64, FENCE_DIGITS, fence);
	memcpy(c->command.bytes + c->fence_at, digits, FENCE_DIGITS);
	command_append(out, c->command.bytes, c->command.used);
	c->sent = true;
	c->tries++;
}

void change_fail(struct change *c, int result, const char *fmt, ...)
{
	va_list ap;
	c->result = result;
	va_start(ap, fmt);
	vsnprintf(c->text, sizeof c->text, fmt, ap);
	va_end(ap);
}

static void conflict(struct change *c, long long present)
{
	if (present == 0)
		change_fail(c, TUNNEL_CONFLICT, "there is no such document; expected version %" PRIu64,
			    c->expect_version);
	else
		change_fail(c, TUNNEL_CONFLICT, "the version is %lld; expected %" PRIu64, present, c->expect_version);
}

static void not_taken_up(struct change *c, const char *why)
{
	c->again = c->tries < TRIES_MAX;
	change_fail(c, TUNNEL_UNAVAILABLE, "%s: %s, %u times; nothing was done", c->doing, why, c->tries);
}

/* Two numbers, as a script gives them. */
static bool is_answer(const redisReply *reply)
{
	return reply->type == REDIS_REPLY_ARRAY && reply->elements >= 2 &&
	       reply->element[0]->type == REDIS_REPLY_INTEGER && reply_number(reply, 1) >= 0;
}

void change_take(struct change *c, const redisReply *reply)
{
	long long code = reply_number(reply, 0), number = reply_number(reply, 1);
	c->text[0] = '\0';
	if (reply_is_error(reply, "NOSCRIPT")) {
		not_taken_up(c, "the server has lost the script");
	} else if (reply->type == REDIS_REPLY_ERROR) {
		c->result = reply_words(reply, c->doing, (struct words){ c->text, sizeof c->text });
	} else if (is_answer(reply) && code == ANSWER_FENCED) {
		not_taken_up(c, "another connection for changes came in between");
	} else if (is_answer(reply) && code == ANSWER_CONFLICT) {
		conflict(c, number);
	} else if (is_answer(reply) && code == ANSWER_NOT_FOUND) {
		c->result = TUNNEL_NOT_FOUND;
	} else if (is_answer(reply) && code == ANSWER_DONE) {
		c->result = TUNNEL_OK;
		c->number = (uint64_t)number;
	} else {
		change_fail(c, TUNNEL_INTERNAL, "%s: an answer of another kind than the script gives", c->doing);
	}
}
