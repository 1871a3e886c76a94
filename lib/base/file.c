#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int file_read_fd(int fd, const char *name, size_t max, struct buf *out, struct err *e)
{
	struct buf b = BUF_INIT(max + 1);
	for (;;) {
		size_t want = buf_room(&b) < 8192 ? buf_room(&b) : 8192;
		uint8_t *at = buf_reserve(&b, want);
		if (!at) {
			buf_wipe_free(&b);
			return err_set(e, ERR_NOMEM, "%s: out of memory", name);
		}
		ssize_t n = read(fd, at, want);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			int saved = errno;
			buf_wipe_free(&b);
			return err_set_errno(e, ERR_IO, saved, "%s", name);
		}
		if (n == 0)
			break;
		buf_commit(&b, (size_t)n);
		if (b.len > max) {
			buf_wipe_free(&b);
			return err_set(e, ERR_LIMIT, "%s: larger than %zu bytes", name, max);
		}
	}
	*out = b;
	return 0;
}

int file_read(const char *path, size_t max, struct buf *out, struct err *e)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return err_set_errno(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, errno, "%s", path);
	int rc = file_read_fd(fd, path, max, out, e);
	close(fd);
	return rc;
}

static int check_guarded(int fd, const char *path, struct err *e)
{
	struct stat st;
	if (fstat(fd, &st) != 0)
		return err_set_errno(e, ERR_IO, errno, "%s", path);
	if (!S_ISREG(st.st_mode))
		return err_set(e, ERR_INVALID, "%s: not a regular file", path);
	if (st.st_uid != 0 && st.st_uid != geteuid())
		return err_set(e, ERR_DENIED, "%s: owned by uid %u; it must be root or uid %u", path,
			       (unsigned)st.st_uid, (unsigned)geteuid());
	if (st.st_mode & (S_IWGRP | S_IWOTH))
		return err_set(e, ERR_DENIED, "%s: mode %04o lets others change it; run: chmod go-w %s", path,
			       (unsigned)(st.st_mode & 07777), path);
	return 0;
}

int file_read_guarded(const char *path, size_t max, struct buf *out, struct err *e)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0)
		return err_set_errno(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, errno, "%s", path);
	int rc = check_guarded(fd, path, e);
	if (rc == 0)
		rc = file_read_fd(fd, path, max, out, e);
	close(fd);
	return rc;
}

static int write_all(int fd, const char *data, size_t len)
{
	while (len) {
		ssize_t n = write(fd, data, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		data += n;
		len -= (size_t)n;
	}
	return 0;
}

static int open_folder_of(const char *path, struct err *e)
{
	char dir[PATH_MAX];
	const char *slash = strrchr(path, '/');
	if (!slash)
		snprintf(dir, sizeof dir, ".");
	else
		snprintf(dir, sizeof dir, "%.*s", slash == path ? 1 : (int)(slash - path), path);
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_set_errno(e, ERR_IO, errno, "%s", dir);
	return fd;
}

static int write_temp(int fd, const char *temp, const void *data, size_t len, mode_t mode, struct err *e)
{
	int rc = 0;
	if (fchmod(fd, mode) != 0 || write_all(fd, data, len) != 0 || fsync(fd) != 0)
		rc = err_set_errno(e, ERR_IO, errno, "%s", temp);
	if (close(fd) != 0 && rc == 0)
		rc = err_set_errno(e, ERR_IO, errno, "%s", temp);
	return rc;
}

static int put_in_place(const char *temp, const char *path, bool replace)
{
	int rc = replace ? -1 : renameat2(AT_FDCWD, temp, AT_FDCWD, path, RENAME_NOREPLACE);
	return replace || (rc != 0 && errno == EINVAL) ? rename(temp, path) : rc;
}

static int write_in(int folder, const char *path, const void *data, size_t len, mode_t mode, bool replace,
		    struct err *e)
{
	char temp[PATH_MAX];
	if ((size_t)snprintf(temp, sizeof temp, "%s.XXXXXX", path) >= sizeof temp)
		return err_set(e, ERR_INVALID, "%s: path too long", path);
	int fd = mkostemp(temp, O_CLOEXEC);
	if (fd < 0)
		return err_set_errno(e, ERR_IO, errno, "%s", temp);
	int rc = write_temp(fd, temp, data, len, mode, e);
	if (rc == 0 && put_in_place(temp, path, replace) != 0)
		rc = err_set_errno(e, !replace && errno == EEXIST ? ERR_CONFLICT : ERR_IO, errno, "%s", path);
	if (rc != 0)
		unlink(temp);
	else if (fsync(folder) != 0 && errno != EINVAL) /* EINVAL: a file system that knows no such thing */
		rc = err_set_errno(e, ERR_IO, errno, "%s: it was replaced, but may be the old one after a crash", path);
	return rc;
}

/* The folder is opened first: what cannot be made to last is not begun. */
static int write_file(const char *path, const void *data, size_t len, mode_t mode, bool replace, struct err *e)
{
	int folder = open_folder_of(path, e);
	if (folder < 0)
		return folder;
	int rc = write_in(folder, path, data, len, mode, replace, e);
	close(folder);
	return rc;
}

int file_write(const char *path, const void *data, size_t len, mode_t mode, struct err *e)
{
	return write_file(path, data, len, mode, true, e);
}

int file_create(const char *path, const void *data, size_t len, mode_t mode, struct err *e)
{
	return write_file(path, data, len, mode, false, e);
}

int file_mkdir(const char *path, mode_t mode, struct err *e)
{
	char part[PATH_MAX];
	size_t len = strlen(path);
	if (len == 0 || len >= sizeof part)
		return err_set(e, ERR_INVALID, "folder name of %zu characters", len);
	for (size_t i = 1; i <= len; i++) {
		if (path[i] != '/' && path[i] != '\0')
			continue;
		memcpy(part, path, i);
		part[i] = '\0';
		if (mkdir(part, mode) != 0 && errno != EEXIST)
			return err_set_errno(e, ERR_IO, errno, "%s", part);
	}
	return 0;
}

void file_fill_standard_descriptors(void)
{
	int fd;
	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}
