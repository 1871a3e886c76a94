/* identity.pem signs the control connection, link.pem is the target's end of every session. Enrolment writes *.new
 * before it asks, and copies them when the server has accepted: the one-time token is never spent on keys that were
 * lost. When the answer does not come, or not all of it is on disk (*.new go last), the next attempt asks with the same
 * keys, for which the token still counts.
 *
 * identity.pem.next is to take the place of identity.pem (agent/rotation.h); until the server has taken it in a
 * connection of its own both are kept. Whoever wants that makes the file, and the agent's supervisor does the rest. */
#include "agent/state.h"

#include "base/file.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/secret.h"
#include "base/text.h"
#include "ident/key.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define NEXT "identity.pem.next"

int state_path(const char *folder, const char *name, char out[STATE_PATH], struct err *e)
{
	int n = snprintf(out, STATE_PATH, "%s/%s", folder, name);
	if (n < 0 || n >= STATE_PATH)
		return err_set(e, ERR_LIMIT, "%.60s…: the path is too long", folder);
	return 0;
}

int state_lock(const char *folder, int *out_fd, struct err *e)
{
	char path[STATE_PATH];
	int rc = file_mkdir(folder, 0700, e);
	if (!rc)
		rc = state_path(folder, "lock", path, e);
	if (rc)
		return rc;
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_set_errno(e, ERR_IO, errno, "%s", path);
	if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
		rc = errno == EWOULDBLOCK
			     ? err_set(e, ERR_CONFLICT, "%s is in use: is tunnel-agent running? Stop it first", folder)
			     : err_set_errno(e, ERR_IO, errno, "%s", path);
		close(fd);
		return rc;
	}
	*out_fd = fd;
	return 0;
}

static int read_target(const char *folder, struct state *s, struct err *e)
{
	char path[STATE_PATH];
	struct buf text;
	json_t *json = NULL;
	const char *id = NULL, *server = NULL;
	const struct json_field fields[] = {
		{ "id", JSON_FIELD_STRING, true, 1, LIMIT_ID, (void *)&id },
		{ "server", JSON_FIELD_STRING, true, 1, sizeof s->server - 1, (void *)&server },
		{ .name = NULL },
	};
	int rc = state_path(folder, "target.json", path, e);
	if (!rc)
		rc = file_read(path, LIMIT_SECRET_FILE, &text, e);
	if (rc == ERR_NOT_FOUND)
		return err_set(
			e, rc,
			"%s: this machine is not enrolled; run: tunnel-agent enroll --server URL --token-file FILE",
			path);
	if (rc)
		return rc;
	rc = json_parse((const char *)buf_data(&text), text.len, &json, e);
	if (rc)
		err_wrap(e, "%s", path);
	else
		rc = json_read(json, path, false, fields, e);
	if (!rc && !text_is_id(id))
		rc = err_set(e, ERR_INVALID, "%s: id: not a target id", path);
	if (!rc) {
		strcpy(s->target, id);
		strcpy(s->server, server);
	}
	json_decref(json);
	buf_free(&text);
	return rc;
}

int state_load(const char *folder, struct state *out, struct err *e)
{
	struct state s = { .identity = NULL };
	char path[STATE_PATH];
	int rc = read_target(folder, &s, e);
	if (!rc)
		rc = state_path(folder, "identity.pem", path, e);
	if (!rc)
		rc = key_load(path, &s.identity, e);
	if (!rc)
		rc = state_find_next(folder, &s, e);
	if (rc)
		state_free(&s);
	else
		*out = s;
	return rc;
}

void state_free(struct state *s)
{
	EVP_PKEY_free(s->identity);
	EVP_PKEY_free(s->next);
	memset(s, 0, sizeof *s);
}

int state_load_link_key(const char *folder, EVP_PKEY **out_key, struct err *e)
{
	char path[STATE_PATH];
	int rc = state_path(folder, "link.pem", path, e);
	return rc ? rc : key_load(path, out_key, e);
}

int state_announce(int lock_fd, struct err *e)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	return fcntl(lock_fd, F_SETLK, &lock) == 0 ? 0 : err_set_errno(e, ERR_IO, errno, "the state folder's lock");
}

int state_holder(const char *folder, pid_t *out_pid, struct err *e)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	char path[STATE_PATH];
	int rc = state_path(folder, "lock", path, e);
	if (rc)
		return rc;
	int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT) {
		*out_pid = 0;
		return 0;
	}
	if (fd < 0 || fcntl(fd, F_GETLK, &lock) != 0)
		rc = err_set_errno(e, ERR_IO, errno, "%s", path);
	else
		*out_pid = lock.l_type != F_UNLCK && lock.l_pid > 0 ? lock.l_pid : 0; /* not seen from here: 0 */
	if (fd >= 0)
		close(fd);
	return rc;
}

int state_make_next(const char *folder, struct err *e)
{
	EVP_PKEY *key = NULL;
	char path[STATE_PATH];
	int rc = state_path(folder, NEXT, path, e);
	if (!rc)
		rc = key_load_or_create(path, &key, e);
	EVP_PKEY_free(key);
	return rc;
}

int state_find_next(const char *folder, struct state *s, struct err *e)
{
	char path[STATE_PATH];
	int rc = s->next ? 0 : state_path(folder, NEXT, path, e);
	if (!rc && !s->next)
		rc = key_load(path, &s->next, e);
	return rc == ERR_NOT_FOUND ? 0 : rc;
}

int state_has_next(const char *folder)
{
	char path[STATE_PATH];
	struct err e;
	if (state_path(folder, NEXT, path, &e))
		return -1;
	if (access(path, F_OK) == 0)
		return 1;
	return errno == ENOENT ? 0 : -1;
}

static bool is_in_file(EVP_PKEY *key, const char *path)
{
	EVP_PKEY *kept = NULL;
	bool same = key_load(path, &kept, NULL) == 0 && EVP_PKEY_eq(kept, key) == 1;
	EVP_PKEY_free(kept);
	return same;
}

int state_take_next(const char *folder, struct state *s, struct err *e)
{
	char path[STATE_PATH], next[STATE_PATH];
	int rc = state_path(folder, "identity.pem", path, e);
	if (!rc)
		rc = state_path(folder, NEXT, next, e);
	if (rc)
		return rc;
	/* The server takes this one and no other: it must last, whatever became of its file. */
	if (!is_in_file(s->next, next))
		rc = key_save(path, s->next, e);
	else if (rename(next, path) != 0)
		rc = err_set_errno(e, ERR_IO, errno, "%s", next);
	if (rc)
		return rc;
	/* A crash of the machine may bring the old name back: then both are there again, and the next one counts. */
	EVP_PKEY_free(s->identity);
	s->identity = s->next;
	s->next = NULL;
	return 0;
}

int state_identity_age_ms(const char *folder, int64_t wall_ms, int64_t *out_ms, struct err *e)
{
	char path[STATE_PATH];
	struct stat st;
	int rc = state_path(folder, "identity.pem", path, e);
	if (!rc && stat(path, &st) != 0)
		rc = err_set_errno(e, ERR_IO, errno, "%s", path);
	if (!rc)
		*out_ms = wall_ms - (int64_t)st.st_mtime * 1000;
	return rc;
}

static int new_key(const char *folder, const char *name, EVP_PKEY **out_key, struct err *e)
{
	char path[STATE_PATH];
	int rc = state_path(folder, name, path, e);
	return rc ? rc : key_load_or_create(path, out_key, e);
}

int state_prepare_keys(const char *folder, EVP_PKEY **out_identity, EVP_PKEY **out_link, struct err *e)
{
	EVP_PKEY *identity = NULL, *link = NULL;
	int rc = new_key(folder, "identity.pem.new", &identity, e);
	if (!rc)
		rc = new_key(folder, "link.pem.new", &link, e);
	if (rc) {
		EVP_PKEY_free(identity);
		return rc;
	}
	*out_identity = identity;
	*out_link = link;
	return 0;
}

void state_forget_new_keys(const char *folder)
{
	static const char *const names[] = { "identity.pem.new", "link.pem.new" };
	char path[STATE_PATH];
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (state_path(folder, names[i], path, NULL) == 0)
			unlink(path);
}

static int take_new(const char *folder, const char *name, struct err *e)
{
	char path[STATE_PATH], fresh[STATE_PATH + 8];
	struct buf pem;
	int rc = state_path(folder, name, path, e);
	if (rc)
		return rc;
	snprintf(fresh, sizeof fresh, "%s.new", path);
	rc = secret_read_file(fresh, &pem, e);
	if (rc)
		return rc;
	rc = secret_write_file(path, buf_data(&pem), pem.len, e);
	buf_wipe_free(&pem);
	return rc;
}

int state_commit(const char *folder, const char *target, const char *server, struct err *e)
{
	char path[STATE_PATH];
	int rc = state_path(folder, NEXT, path, e);
	if (!rc)
		unlink(path); /* it was to follow a key that is no more */
	if (!rc)
		rc = take_new(folder, "identity.pem", e);
	if (!rc)
		rc = take_new(folder, "link.pem", e);
	if (!rc)
		rc = state_path(folder, "target.json", path, e);
	if (rc)
		return rc;
	json_auto_t *json = json_pack("{s:s, s:s}", "id", target, "server", server);
	char *text = json ? json_text(json) : NULL;
	if (!text)
		return err_set(e, ERR_NOMEM, "out of memory");
	rc = file_write(path, text, strlen(text), 0600, e);
	free(text);
	if (!rc)
		state_forget_new_keys(folder);
	return rc;
}
