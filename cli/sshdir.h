/* What OpenSSH's client needs for one session: a key with its certificate, and what to trust. The key is made for the
 * session and stays in memory; what is no secret, and sockets, go to a folder of mode 0700. */
#ifndef CLI_SSHDIR_H
#define CLI_SSHDIR_H

#include "base/err.h"
#include "ident/sshagent.h"
#include "ident/sshcert.h"

#include <jansson.h>
#include <limits.h>
#include <stdbool.h>

#define SSHDIR_PATH 92 /* bytes: the sockets in it fit sun_path */

/* A file of this process' memory (memfd_create): gone with it, however it ends. */
struct sshdir_hidden {
	int fd; /* -1: none */
	char path[40];
};

struct sshdir {
	char path[SSHDIR_PATH];
	char public_key[SSHCERT_KEY_TEXT];
	char certificate[SSHCERT_TEXT]; /* with identity: set by sshdir_fill */
	struct sshagent_identity identity;
	EVP_PKEY *key;
	struct sshdir_hidden key_file, certificate_file; /* of sshdir_show_files */
	char config_file[SSHDIR_PATH + 16];              /* "": ssh needs none */
	bool temporary;
};

/* path NULL: a new folder below XDG_RUNTIME_DIR or TMPDIR, removed by sshdir_close. d must be closed either way. */
int sshdir_open(struct sshdir *d, const char *path, struct err *e);
/* From the "ssh" member of StartSession's answer; writes known_hosts. */
int sshdir_fill(struct sshdir *d, const json_t *ssh, struct err *e);
/* Key and certificate in files that another program of this user can read once process_show was called, until
 * sshdir_close; before sshdir_fill that of the certificate is empty. And where ssh's own choice of cipher is a slow
 * one, a config in the folder. */
int sshdir_show_files(struct sshdir *d, struct err *e);
/* A listening socket of that name, in place of one that is there. Returns it, or an error. */
int sshdir_listen(const struct sshdir *d, const char *name, struct err *e);
void sshdir_close(struct sshdir *d);
/* Removes the folder that sshdir_close would, if one is open. Async-signal-safe, for who ends at once; nothing else may
 * be done with it afterwards. */
void sshdir_vanish(void);

#endif
