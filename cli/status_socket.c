#include "cli/status_socket.h"

#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "cli/unixsock.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

/* Of a socket's name: "session.<session>.<pid>". So a client that takes a session over from another one on this machine
 * has its own from the start, and the other one's end leaves it alone. */
#define PREFIX "session."
#define ANSWER_S 2 /* for a session that is stopped, or busy for long */

/* The same for all of a user's programs, whatever started them: an editor and a cron job see each other's. */
static int folder_path(char out[PATH_MAX], struct err *e)
{
	const char *xdg = getenv("XDG_RUNTIME_DIR");
	char run[64];
	struct stat st;
	snprintf(run, sizeof run, "/run/user/%u", (unsigned)geteuid());
	if (xdg && *xdg == '/')
		snprintf(out, PATH_MAX, "%s/tunnel", xdg);
	else if (stat(run, &st) == 0 && st.st_uid == geteuid())
		snprintf(out, PATH_MAX, "%s/tunnel", run);
	else
		snprintf(out, PATH_MAX, "/tmp/tunnel-%u", (unsigned)geteuid());
	int rc = file_mkdir(out, 0700, e);
	if (rc != 0)
		return rc;
	if (lstat(out, &st) != 0 || !S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 077))
		return err_set(e, ERR_DENIED, "%s: must be a folder of yours alone (mode 0700)", out);
	return 0;
}

static bool socket_path(const char *folder, const char *name, char out[PATH_MAX])
{
	int n = snprintf(out, PATH_MAX, "%s/%s", folder, name);
	return n > 0 && n < PATH_MAX;
}

/* --- the session's side */

static void tell(const struct status_socket *s, int fd)
{
	json_t *row = s->tell(s->user);
	char *text = row ? json_text(row) : NULL;
	size_t len = text ? strlen(text) : 0;
	/* Who is gone before he was told misses nothing. */
	if (len > 0 && len < STATUS_TEXT && send(fd, text, len, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		len = 0;
	free(text);
	json_decref(row);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
	const struct status_socket *s = poll->data;
	(void)status, (void)events;
	int fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0)
		return;
	tell(s, fd);
	close(fd);
}

int status_socket_start(struct status_socket *s, uv_loop_t *loop, const char *session, struct err *e)
{
	char folder[PATH_MAX], name[NAME_MAX];
	int rc = folder_path(folder, e);
	if (rc != 0)
		return rc;
	snprintf(name, sizeof name, PREFIX "%s.%ld", session, (long)getpid());
	if (!socket_path(folder, name, s->path))
		return err_set(e, ERR_INVALID, "%s: path too long", folder);
	s->fd = unixsock_listen(s->path, e);
	if (s->fd < 0)
		return s->fd;
	if ((rc = uv_poll_init(loop, &s->poll, s->fd)) != 0) {
		close(s->fd);
		unlink(s->path);
		return err_set(e, ERR_IO, "%s: %s", s->path, uv_strerror(rc));
	}
	s->poll.data = s;
	s->active = true;
	uv_poll_start(&s->poll, UV_READABLE, on_readable);
	return 0;
}

static void on_closed(uv_handle_t *h)
{
	const struct status_socket *s = h->data;
	close(s->fd);
}

void status_socket_stop(struct status_socket *s)
{
	if (!s->active)
		return;
	s->active = false;
	unlink(s->path);
	uv_close((uv_handle_t *)&s->poll, on_closed);
}

/* --- who asks */

static json_t *ask(const char *path)
{
	char text[STATUS_TEXT];
	size_t n = 0;
	ssize_t got;
	json_t *row = NULL;
	struct timeval limit = { .tv_sec = ANSWER_S };
	int fd = unixsock_connect(path, NULL);
	if (fd == ERR_NOT_FOUND)
		unlink(path);
	if (fd < 0)
		return NULL;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	while (n < sizeof text && (got = read(fd, text + n, sizeof text - n)) > 0)
		n += (size_t)got;
	close(fd);
	return json_parse(text, n, &row, NULL) == 0 ? row : NULL;
}

/* Does a client of this session (NULL: of any) listen there? Sessions' ids have no dot; earlier clients put nothing
 * behind them. */
static bool is_of(const char *name, const char *session)
{
	if (!text_starts(name, PREFIX))
		return false;
	const char *id = name + strlen(PREFIX);
	size_t len = strcspn(id, ".");
	return !session || (strlen(session) == len && memcmp(session, id, len) == 0);
}

int status_ask_all(const char *session, json_t **out_rows, struct err *e)
{
	char folder[PATH_MAX], path[PATH_MAX];
	int rc = folder_path(folder, e);
	DIR *d = rc == 0 ? opendir(folder) : NULL;
	if (!d)
		return rc ? rc : err_set_errno(e, ERR_IO, errno, "%s", folder);
	json_t *rows = json_array();
	for (const struct dirent *entry = readdir(d); entry; entry = readdir(d)) {
		if (!is_of(entry->d_name, session) || !socket_path(folder, entry->d_name, path))
			continue;
		json_t *row = ask(path);
		if (row)
			json_array_append_new(rows, row);
	}
	closedir(d);
	*out_rows = rows;
	return 0;
}
