/* The files that OpenSSH's client needs for one session: a key, its certificate, what to trust. In a folder of mode
 * 0700. */
#ifndef CLI_SSHDIR_H
#define CLI_SSHDIR_H

#include "base/err.h"
#include "ident/sshcert.h"

#include <jansson.h>
#include <limits.h>

struct sshdir {
	char path[PATH_MAX - 64];
	char public_key[SSHCERT_KEY_TEXT];
	int temporary;
};

/* path NULL: a new folder below XDG_RUNTIME_DIR or TMPDIR, removed by sshdir_close. A key is made (or found in a given
 * folder). */
int sshdir_open(struct sshdir *d, const char *path, struct err *e);
/* key-cert.pub and known_hosts, from the "ssh" member of StartSession's answer. */
int sshdir_fill(const struct sshdir *d, const json_t *ssh, struct err *e);
void sshdir_close(struct sshdir *d);

#endif
