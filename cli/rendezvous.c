/* Who changes the link holds a lock on the folder. A process that was killed leaves a socket on which nobody listens:
 * the next that comes sweeps it away. */
#include "cli/rendezvous.h"

#include "cli/unixsock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

static bool path_of(const struct rendezvous *r, const char *file, char out[PATH_MAX])
{
	int n = snprintf(out, PATH_MAX, "%s/%s", r->folder, file);
	return n > 0 && n < PATH_MAX;
}

/* Where locks do not work (some network file systems) the worst is a link to one who leaves at this moment. */
static int lock(const struct rendezvous *r)
{
	int fd = open(r->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0)
		while (flock(fd, LOCK_EX) != 0 && errno == EINTR)
			;
	return fd;
}

static void unlock(int fd)
{
	if (fd >= 0)
		close(fd);
}

static int point_at(const struct rendezvous *r, const char *socket, struct err *e)
{
	char link[PATH_MAX], fresh[PATH_MAX], file[RENDEZVOUS_NAME + 20];
	snprintf(file, sizeof file, "%s.%ld.new", r->name, (long)getpid());
	if (!path_of(r, r->name, link) || !path_of(r, file, fresh))
		return err_set(e, ERR_INVALID, "%s: path too long", r->folder);
	unlink(fresh);
	if (symlink(socket, fresh) == 0 && rename(fresh, link) == 0)
		return 0;
	int rc = err_set_errno(e, ERR_IO, errno, "%s", link);
	unlink(fresh);
	return rc;
}

/* Takes away what nobody listens on. Another one's socket that lives, in out, if there is one. */
static bool sweep(const struct rendezvous *r, char out[RENDEZVOUS_NAME + 16])
{
	DIR *d = opendir(r->folder);
	size_t len = strlen(r->name);
	bool found = false;
	for (const struct dirent *entry = d ? readdir(d) : NULL; entry; entry = readdir(d)) {
		const char *rest = entry->d_name + len;
		char path[PATH_MAX];
		if (strncmp(entry->d_name, r->name, len) != 0 || rest[0] != '.' || !rest[1] ||
		    strspn(rest + 1, "0123456789") != strlen(rest + 1) || strlen(rest) > 12 ||
		    strcmp(entry->d_name, r->own) == 0 || !path_of(r, entry->d_name, path))
			continue;
		int fd = unixsock_connect(path, NULL);
		if (fd == ERR_NOT_FOUND)
			unlink(path);
		if (fd < 0)
			continue;
		close(fd);
		snprintf(out, RENDEZVOUS_NAME + 16, "%s.%.12s", r->name, rest + 1);
		found = true;
	}
	if (d)
		closedir(d);
	return found;
}

static bool is_ours(const struct rendezvous *r)
{
	char link[PATH_MAX], to[RENDEZVOUS_NAME + 16];
	ssize_t n = path_of(r, r->name, link) ? readlink(link, to, sizeof to) : -1;
	return n == (ssize_t)strlen(r->own) && memcmp(to, r->own, (size_t)n) == 0;
}

int rendezvous_join(struct rendezvous *r, const char *folder, const char *name, struct err *e)
{
	struct rendezvous fresh = { .folder = "" };
	char path[PATH_MAX], other[RENDEZVOUS_NAME + 16];
	snprintf(fresh.folder, sizeof fresh.folder, "%s", folder);
	snprintf(fresh.name, sizeof fresh.name, "%s", name);
	snprintf(fresh.own, sizeof fresh.own, "%s.%ld", fresh.name, (long)getpid());
	if (!path_of(&fresh, fresh.own, path))
		return err_set(e, ERR_INVALID, "%s: path too long", folder);
	int held = lock(&fresh);
	sweep(&fresh, other);
	int fd = unixsock_listen(path, e);
	int rc = fd < 0 ? fd : point_at(&fresh, fresh.own, e);
	if (fd >= 0 && rc != 0) {
		close(fd);
		unlink(path);
		fd = rc;
	}
	unlock(held);
	if (fd >= 0)
		*r = fresh;
	return fd;
}

void rendezvous_leave(struct rendezvous *r)
{
	char other[RENDEZVOUS_NAME + 16], path[PATH_MAX];
	if (!r->own[0])
		return;
	int held = lock(r);
	bool ours = is_ours(r), found = ours && sweep(r, other);
	if (found)
		point_at(r, other, NULL);
	else if (ours && path_of(r, r->name, path))
		unlink(path);
	if (path_of(r, r->own, path))
		unlink(path);
	unlock(held);
	r->own[0] = '\0';
}
