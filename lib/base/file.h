/* Whole files: read with a ceiling, written so that a crash leaves the old or the new content. */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include "base/buf.h"
#include "base/err.h"

#include <sys/types.h>

/* out is initialised here and must be freed by the caller on success. ERR_NOT_FOUND, ERR_LIMIT, ERR_IO, ERR_NOMEM. */
int file_read(const char *path, size_t max, struct buf *out, struct err *e);
int file_read_fd(int fd, const char *name, size_t max, struct buf *out, struct err *e);
/* The same for what is no secret and must not be changed by others: ERR_DENIED unless owner is root or this user and
 * nobody else may write it; ERR_INVALID unless it is a regular file. */
int file_read_guarded(const char *path, size_t max, struct buf *out, struct err *e);
/* Temporary in the same folder, which must be readable, fsync, rename, fsync of the folder. On failure the file is as
 * it was; but for one of the last step: then it is the new one, and may be the old one again after a crash. */
int file_write(const char *path, const void *data, size_t len, mode_t mode, struct err *e);
/* The same for a file that must not be there yet: ERR_CONFLICT, and nothing is changed, when it is. Of several who do
 * it at once one succeeds; but for file systems that know no such thing (NFS). */
int file_create(const char *path, const void *data, size_t len, mode_t mode, struct err *e);
/* Creates path with its missing parents; what exists is left as it is. */
int file_mkdir(const char *path, mode_t mode, struct err *e);
/* Of 0, 1 and 2 each that is closed becomes /dev/null: the next socket would take its place, be written to by whoever
 * means a standard descriptor, and libuv aborts when it is to close one. First of all in main. */
void file_fill_standard_descriptors(void);

#endif
