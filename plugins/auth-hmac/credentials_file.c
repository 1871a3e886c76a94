/* Parses the file with libconfig, whose own copies of the file's text are out of our reach: it sees marks in place of
 * the secrets (mask.h). Those that it does see are wiped as far as we can. */
#include "credentials.h"

#include "mask.h"
#include "text.h"

#include <errno.h>
#include <fcntl.h>
#include <libconfig.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/crypto.h>

static int compare_ids(const void *a, const void *b)
{
	return strcmp(((const struct credential *)a)->key_id, ((const struct credential *)b)->key_id);
}

int key_id_is_valid(const char *text, size_t n)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.";
	return n >= 1 && n <= KEY_ID_MAX && strspn(text, allowed) >= n;
}

/* A subject or group: printable, and safe between JSON's quotes as it stands. UTF-8 is passed on. */
static int is_name(const char *text, size_t size)
{
	size_t n = 0;
	for (; text[n]; n++) {
		unsigned char c = (unsigned char)text[n];
		if (c < 0x20 || c == 0x7f || c == '"' || c == '\\' || n + 1 >= size)
			return 0;
	}
	return n > 0;
}

/* Is it UTF-8 (RFC 3629: shortest form, no surrogates, up to U+10FFFF)? */
static int is_utf8(const char *text)
{
	const unsigned char *p = (const unsigned char *)text;
	while (*p) {
		unsigned char c = *p++;
		unsigned more = c < 0x80                ? 0u
				: c >= 0xc2 && c < 0xe0 ? 1u
				: c >= 0xe0 && c < 0xf0 ? 2u
				: c >= 0xf0 && c < 0xf5 ? 3u
							: 9u;
		if (more == 9u || (c == 0xe0 && *p < 0xa0) || (c == 0xed && *p > 0x9f) || (c == 0xf0 && *p < 0x90) ||
		    (c == 0xf4 && *p > 0x8f))
			return 0;
		for (; more; more--)
			if ((*p++ & 0xc0) != 0x80)
				return 0;
	}
	return 1;
}

/* What the secrets of hmac-credentials.example begin with: everybody knows those. */
static const char placeholder[] = "replace-this";

static const char *const members[] = { "key_id", "secret", "subject", "groups" };

static int check_members(const config_setting_t *entry, const char *at, char *err, size_t err_len)
{
	char a[SHOWN_MAX];
	for (int i = 0; i < config_setting_length(entry); i++) {
		const config_setting_t *member = config_setting_get_elem(entry, (unsigned)i);
		size_t known = 0;
		for (size_t k = 0; k < sizeof members / sizeof *members; k++)
			known += strcmp(config_setting_name(member), members[k]) == 0;
		if (!known)
			return say(-1, err, err_len,
				   "%s:%u: %s: unknown setting; allowed: key_id, secret, subject, groups", at,
				   config_setting_source_line(member), shown(config_setting_name(member), a));
	}
	return 0;
}

/* ["a", "b"] as JSON; the names need no escapes. */
static int read_groups(const config_setting_t *groups, const char *at, char **out, char *err, size_t err_len)
{
	struct string json = { .max = TUNNEL_GROUPS_MAX };
	int n = groups ? config_setting_length(groups) : 0;
	if (groups && !config_setting_is_array(groups) && !config_setting_is_list(groups))
		return say(-1, err, err_len, "%s:%u: groups: expected an array of texts", at,
			   config_setting_source_line(groups));
	for (int i = 0; i < n; i++) {
		const char *name = config_setting_get_string_elem(groups, i);
		if (!name || !is_name(name, 256) || !is_utf8(name)) {
			string_free(&json);
			return say(-1, err, err_len,
				   "%s:%u: groups: expected texts of 1 to 255 bytes of UTF-8 without control "
				   "characters, \" and \\",
				   at, config_setting_source_line(groups));
		}
		string_add(&json, i ? "\",\"" : "[\"");
		string_add(&json, name);
	}
	string_add(&json, n ? "\"]" : "");
	if (json.failed) {
		string_free(&json);
		if (!groups)
			return say(-1, err, err_len, "out of memory");
		return say(-1, err, err_len, "%s:%u: groups: longer than %d bytes as JSON", at,
			   config_setting_source_line(groups), TUNNEL_GROUPS_MAX - 1);
	}
	*out = json.at;
	return 0;
}

static int read_entry(const config_setting_t *entry, const char *at, struct mask *masked, struct credential *out,
		      char *err, size_t err_len)
{
	const char *key_id = NULL, *mark = NULL, *secret = NULL, *subject = NULL;
	unsigned line = config_setting_source_line(entry);
	if (!config_setting_is_group(entry))
		return say(-1, err, err_len, "%s:%u: expected { key_id = …; secret = …; subject = …; }", at, line);
	if (check_members(entry, at, err, err_len) != 0)
		return -1;
	config_setting_lookup_string(entry, "key_id", &key_id);
	if (config_setting_lookup_string(entry, "secret", &mark))
		secret = mask_secret(masked, mark);
	config_setting_lookup_string(entry, "subject", &subject);
	if (!key_id || !key_id_is_valid(key_id, strlen(key_id)))
		return say(-1, err, err_len, "%s:%u: key_id: expected 1 to %u letters, digits, \"-\", \"_\", \".\"", at,
			   line, KEY_ID_MAX);
	if (!secret || strlen(secret) < SECRET_MIN || strlen(secret) > SECRET_MAX)
		return say(-1, err, err_len, "%s:%u: secret of %s: expected a text of %u to %u characters", at, line,
			   key_id, SECRET_MIN, SECRET_MAX);
	if (strncmp(secret, placeholder, sizeof placeholder - 1) == 0)
		return say(
			-1, err, err_len,
			"%s:%u: secret of %s: is still the sample's placeholder; make one: head -c 30 /dev/urandom | "
			"base64",
			at, config_setting_source_line(config_setting_get_member(entry, "secret")), key_id);
	if (!subject || !is_name(subject, TUNNEL_SUBJECT_MAX) || !is_utf8(subject))
		return say(
			-1, err, err_len,
			"%s:%u: subject of %s: expected 1 to %d bytes of UTF-8 without control characters, \" and \\",
			at, line, key_id, TUNNEL_SUBJECT_MAX - 1);
	if (read_groups(config_setting_get_member(entry, "groups"), at, &out->groups, err, err_len) != 0)
		return -1;
	out->key_id = strdup(key_id);
	out->secret = mask_take(masked, mark);
	out->subject = strdup(subject);
	return out->groups && out->key_id && out->secret && out->subject ? 0 : say(-1, err, err_len, "out of memory");
}

static int read_entries(const config_t *config, const char *at, struct mask *masked, struct credentials *set, char *err,
			size_t err_len)
{
	const config_setting_t *list = config_lookup(config, "credentials");
	int n = list ? config_setting_length(list) : 0;
	if (!list || !config_setting_is_list(list) || config_setting_length(config_root_setting(config)) != 1)
		return say(-1, err, err_len, "%s: expected credentials = ( { … }, … ); and nothing else", at);
	if (n > (int)CREDENTIALS_MAX)
		return say(-1, err, err_len, "%s: %d credentials; allowed: up to %u", at, n, CREDENTIALS_MAX);
	set->at = calloc((size_t)n + 1, sizeof *set->at);
	if (!set->at)
		return say(-1, err, err_len, "out of memory");
	for (int i = 0; i < n; i++) {
		set->n++; /* also half-read ones are freed */
		if (read_entry(config_setting_get_elem(list, (unsigned)i), at, masked, &set->at[i], err, err_len) != 0)
			return -1;
	}
	qsort(set->at, set->n, sizeof *set->at, compare_ids);
	for (size_t i = 1; i < set->n; i++)
		if (strcmp(set->at[i].key_id, set->at[i - 1].key_id) == 0)
			return say(-1, err, err_len, "%s: key_id %s is there twice", at, set->at[i].key_id);
	return 0;
}

/* libconfig frees its texts without wiping them: do it for those we can reach. */
static void wipe_secrets(const config_t *config)
{
	const config_setting_t *list = config_lookup(config, "credentials");
	for (int i = 0; list && config_setting_is_list(list) && i < config_setting_length(list); i++) {
		const config_setting_t *entry = config_setting_get_elem(list, (unsigned)i);
		const char *secret = NULL;
		if (entry && config_setting_is_group(entry) && config_setting_lookup_string(entry, "secret", &secret))
			OPENSSL_cleanse((void *)(uintptr_t)secret, strlen(secret));
	}
}

static int parse(char *text, const char *at, struct credentials *set, char *err, size_t err_len)
{
	config_t config;
	struct mask masked;
	int rc;
	if (strstr(text, "@include"))
		return say(-1, err, err_len, "%s: @include is not allowed here: the other file's mode is not checked",
			   at);
	mask_secrets(&masked, text);
	config_init(&config);
	if (config_read_string(&config, text) == CONFIG_TRUE)
		rc = read_entries(&config, at, &masked, set, err, err_len);
	else
		rc = say(-1, err, err_len, "%s:%d: %s", at, config_error_line(&config), config_error_text(&config));
	wipe_secrets(&config);
	config_destroy(&config);
	mask_free(&masked);
	return rc;
}

static int check_file(int fd, const char *path, char *err, size_t err_len)
{
	struct stat st;
	if (fstat(fd, &st) != 0)
		return say(-1, err, err_len, "%s: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return say(-1, err, err_len, "%s: not a regular file", path);
	if (st.st_mode & 077)
		return say(-1, err, err_len, "%s: has mode %04o, others could read it; allowed: 0600 (chmod 600)", path,
			   (unsigned)(st.st_mode & 07777));
	if (st.st_uid != geteuid() && st.st_uid != 0)
		return say(-1, err, err_len, "%s: belongs to another user (uid %u); allowed: the server's user or root",
			   path, (unsigned)st.st_uid);
	if (st.st_size > (off_t)CREDENTIALS_FILE_MAX)
		return say(-1, err, err_len, "%s: larger than %u bytes", path, CREDENTIALS_FILE_MAX);
	return 0;
}

/* The whole file as text; wipe and free. */
static char *read_file(const char *path, size_t *out_len, char *err, size_t err_len)
{
	size_t len = 0;
	ssize_t n = 1;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0) {
		say(-1, err, err_len, "%s: %s", path, strerror(errno));
		return NULL;
	}
	char *text = NULL;
	if (check_file(fd, path, err, err_len) == 0 && !(text = malloc(CREDENTIALS_FILE_MAX + 2)))
		say(-1, err, err_len, "out of memory");
	while (text && n != 0 && len <= CREDENTIALS_FILE_MAX) {
		n = read(fd, text + len, CREDENTIALS_FILE_MAX + 1 - len);
		if (n < 0 && errno != EINTR)
			break;
		len += n > 0 ? (size_t)n : 0;
	}
	if (text)
		text[len] = '\0';
	if (text && (n < 0 || len > CREDENTIALS_FILE_MAX || strlen(text) != len)) {
		say(-1, err, err_len, "%s: %s", path,
		    n < 0                        ? strerror(errno)
		    : len > CREDENTIALS_FILE_MAX ? "too large"
						 : "holds a NUL byte");
		OPENSSL_cleanse(text, len);
		free(text);
		text = NULL;
	}
	close(fd);
	*out_len = len;
	return text;
}

int credentials_read_file(const char *path, struct credentials *set, char *err, size_t err_len)
{
	size_t len = 0;
	const char *slash = strrchr(path, '/');
	char *text = read_file(path, &len, err, err_len);
	if (!text)
		return -1;
	int rc = parse(text, slash ? slash + 1 : path, set, err, err_len);
	OPENSSL_cleanse(text, len);
	free(text);
	return rc;
}
