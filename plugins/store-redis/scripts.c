/* The fence. A change whose answer never came may still lie in a connection that was given up, and the server may read
 * it later: after changes that were asked for later have been answered. So each connection for changes has a number
 * that grows within an instance; the first thing that a new one does is to write its number down, and each script
 * compares. What an old one still carries then does nothing.
 *
 * Time is the server's (TIME): one clock for all nodes says what has expired. Expired documents are left until the
 * purge, which takes their index entries with them; a TTL would leave those behind. */
#include "scripts.h"

#include <ctype.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>

#define FENCED "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {-1, 0} end\n"
#define NOW                              \
	"local t = redis.call('TIME')\n" \
	"local now = t[1] * 1000 + math.floor(t[2] / 1000)\n"
/* head(key): version, expiry and entries of what is stored, read without the value; nil when there is nothing. */
#define HEAD                                                                                   \
	"local function head(key)\n"                                                           \
	"  local n = 256\n"                                                                    \
	"  while true do\n"                                                                    \
	"    local s = redis.call('GETRANGE', key, 0, n - 1)\n"                                \
	"    if s == '' then return nil end\n"                                                 \
	"    local version, expires, entries = string.match(s, '^(%d+) (%d+) ([^\\n]*)\\n')\n" \
	"    if version then\n"                                                                \
	"      return version, expires, entries ~= '' and cjson.decode(entries) or {}\n"       \
	"    end\n"                                                                            \
	"    if #s < n then return error('a document without its first line: ' .. key) end\n"  \
	"    n = n * 8\n"                                                                      \
	"  end\n"                                                                              \
	"end\n"                                                                                \
	"local function lives(expires)\n"                                                      \
	"  return expires == '0' or tonumber(expires) > now\n"                                 \
	"end\n"
/* forget(…): takes a document away with all that leads to it. */
#define FORGET                                                               \
	"local function forget(doc, coll, exps, base, key, name, entries)\n" \
	"  for _, entry in ipairs(entries) do\n"                             \
	"    redis.call('ZREM', base .. entry, key)\n"                       \
	"  end\n"                                                            \
	"  redis.call('DEL', doc)\n"                                         \
	"  redis.call('ZREM', coll, key)\n"                                  \
	"  redis.call('ZREM', exps, name)\n"                                 \
	"end\n"

static const char *const texts[SCRIPTS] = {
	/* KEYS fence, format; ARGV number, ms it is kept, our format */
	[SCRIPT_FENCE] = "local format = redis.call('GET', KEYS[2])\n"
			 "if format and format ~= ARGV[3] then return {-2, tonumber(format) or 0} end\n"
			 "if tonumber(redis.call('GET', KEYS[1]) or '0') >= tonumber(ARGV[1]) then return {-1, 0} end\n"
			 "if not format then redis.call('SET', KEYS[2], ARGV[3]) end\n"
			 "redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])\n"
			 "return {0, 0}\n",
	/* KEYS fence, document, collection, expiries, entry…; ARGV fence, expected version or '', expires, key,
	 * collection:key, what entries' keys begin with, value, entry… */
	[SCRIPT_PUT] = FENCED NOW HEAD
	"local version, expires, old = head(KEYS[2])\n"
	"local present = version and lives(expires) and version or '0'\n"
	"if ARGV[2] ~= '' and ARGV[2] ~= present then return {3, tonumber(present)} end\n"
	"local new, wanted = {}, {}\n"
	"for i = 8, #ARGV do new[#new + 1] = ARGV[i]; wanted[ARGV[i]] = true end\n"
	"for _, entry in ipairs(old or {}) do\n"
	"  if wanted[entry] then wanted[entry] = nil else redis.call('ZREM', ARGV[6] .. entry, ARGV[4]) end\n"
	"end\n"
	"local number = string.format('%.0f', tonumber(present) + 1)\n"
	"redis.call('SET', KEYS[2], number .. ' ' .. ARGV[3] .. ' ' .. (#new > 0 and cjson.encode(new) or '') .. '\\n' "
	".. ARGV[7])\n"
	"if not version then redis.call('ZADD', KEYS[3], 0, ARGV[4]) end\n"
	"for i = 8, #ARGV do\n"
	"  if wanted[ARGV[i]] then redis.call('ZADD', KEYS[i - 3], 0, ARGV[4]) end\n"
	"end\n"
	"if ARGV[3] ~= '0' then\n"
	"  redis.call('ZADD', KEYS[4], ARGV[3], ARGV[5])\n"
	"elseif version and expires ~= '0' then\n"
	"  redis.call('ZREM', KEYS[4], ARGV[5])\n"
	"end\n"
	"return {0, tonumber(number)}\n",
	/* KEYS fence, document, collection, expiries; ARGV fence, expected version or '', key, collection:key, what
	 * entries' keys begin with */
	[SCRIPT_DEL] = FENCED NOW HEAD FORGET
	"local version, expires, old = head(KEYS[2])\n"
	"if not version or not lives(expires) then return {2, 0} end\n"
	"if ARGV[2] ~= '' and ARGV[2] ~= version then return {3, tonumber(version)} end\n"
	"forget(KEYS[2], KEYS[3], KEYS[4], ARGV[5], ARGV[3], ARGV[4], old)\n"
	"return {0, 0}\n",
	/* KEYS fence, log; ARGV fence, record… */
	[SCRIPT_APPEND] = FENCED "local first\n"
				 "for i = 2, #ARGV do\n"
				 "  local id = redis.call('XADD', KEYS[2], '0-*', 'r', ARGV[i])\n"
				 "  first = first or id\n"
				 "end\n"
				 "return {0, tonumber(string.sub(first, 3))}\n",
	/* KEYS fence, expiries; ARGV fence, how many at most, what all keys begin with */
	[SCRIPT_PURGE] = FENCED NOW HEAD FORGET
	"local due = redis.call('ZRANGE', KEYS[2], '-inf', now, 'BYSCORE', 'LIMIT', 0, ARGV[2])\n"
	"for _, name in ipairs(due) do\n"
	"  local collection, key = string.match(name, '^([^:]*):(.*)$')\n"
	"  local doc = ARGV[3] .. 'd:' .. name\n"
	"  local version, expires, old = head(doc)\n"
	"  if version and lives(expires) then\n"
	"    redis.call('ZREM', KEYS[2], name)\n"
	"    if expires ~= '0' then redis.call('ZADD', KEYS[2], expires, name) end\n"
	"  else\n"
	"    forget(doc, ARGV[3] .. 'c:' .. collection, KEYS[2], ARGV[3] .. 'i:' .. collection .. ':', key, name, old "
	"or {})\n"
	"  end\n"
	"end\n"
	"return {0, #due}\n",
	/* KEYS fence, probe; ARGV fence */
	[SCRIPT_PROBE] = FENCED "redis.call('SET', KEYS[2], '1', 'PX', 60000)\n"
				"return {0, 0}\n",
	/* KEYS sorted set; ARGV what documents' keys begin with, low, high, members at most, bytes after which it is
	 * enough. Answers: 1 when nothing is behind, the last member that was looked at, then key and document in
	 * turns. */
	[SCRIPT_PAGE] =
		NOW "local keys = redis.call('ZRANGE', KEYS[1], ARGV[2], ARGV[3], 'BYLEX', 'LIMIT', 0, ARGV[4])\n"
		    "local out, bytes, at = {0, ''}, 0, 0\n"
		    "while at < #keys and bytes < tonumber(ARGV[5]) do\n"
		    "  at = at + 1\n"
		    "  local doc = redis.call('GET', ARGV[1] .. keys[at])\n"
		    "  local expires = doc and string.match(doc, '^%d+ (%d+) ')\n"
		    "  if expires and (expires == '0' or tonumber(expires) > now) then\n"
		    "    out[#out + 1] = keys[at]\n"
		    "    out[#out + 1] = doc\n"
		    "    bytes = bytes + #doc\n"
		    "  end\n"
		    "end\n"
		    "if at == #keys and #keys < tonumber(ARGV[4]) then out[1] = 1 end\n"
		    "out[2] = keys[at] or ''\n"
		    "return out\n",
};

int scripts_load(struct conn *c, int64_t until_ms, struct words w)
{
	for (size_t i = 0; i < SCRIPTS; i++) {
		redisReply *reply = NULL;
		command_begin(conn_out(c), 3);
		command_text(conn_out(c), "SCRIPT");
		command_text(conn_out(c), "LOAD");
		command_text(conn_out(c), texts[i]);
		int rc = conn_ask(c, until_ms, "SCRIPT LOAD", &reply, w);
		if (rc != 0)
			return rc;
		freeReplyObject(reply);
	}
	return 0;
}

/* A server knows a script by the SHA-1 of its text. */
static char names[SCRIPTS][2 * SHA_DIGEST_LENGTH + 1];
static pthread_once_t named = PTHREAD_ONCE_INIT;

static void make_names(void)
{
	for (size_t i = 0; i < SCRIPTS; i++) {
		unsigned char sum[SHA_DIGEST_LENGTH];
		SHA1((const unsigned char *)texts[i], strlen(texts[i]), sum);
		for (size_t k = 0; k < sizeof sum; k++)
			snprintf(names[i] + 2 * k, 3, "%02x", sum[k]);
	}
}

void script_begin(struct command *c, enum script which, bool by_text, size_t keys, size_t words)
{
	pthread_once(&named, make_names);
	command_begin(c, 3 + words);
	command_text(c, by_text ? "EVAL" : "EVALSHA");
	command_text(c, by_text ? texts[which] : names[which]);
	command_format(c, "%zu", keys);
}

bool number_read(const char **at, const char *end, char stop, uint64_t *out)
{
	uint64_t n = 0;
	const char *from = *at;
	while (*at < end && isdigit((unsigned char)**at) && n < UINT64_MAX / 10)
		n = n * 10 + (uint64_t)(*(*at)++ - '0');
	if (*at == from || *at == end || **at != stop)
		return false;
	(*at)++;
	*out = n;
	return true;
}

bool stored_read(const char *bytes, size_t n, struct stored *out)
{
	const char *at = bytes, *end = bytes + n;
	uint64_t expires = 0;
	if (!number_read(&at, end, ' ', &out->version) || !number_read(&at, end, ' ', &expires) || expires > INT64_MAX)
		return false;
	const char *line = memchr(at, '\n', (size_t)(end - at));
	if (!line)
		return false;
	out->expires_ms = (int64_t)expires;
	out->value = line + 1;
	out->value_len = (size_t)(end - out->value);
	return true;
}
