/* Calls of the control API with the profile's credential; the first server that answers is taken. */
#ifndef CLI_CLIENT_H
#define CLI_CLIENT_H

#include "cli/profile.h"
#include "net/http.h"

struct client {
	struct profile profile;
	const struct common_options *common;
	int64_t timeout_ms;       /* of a call to one server; 0: the default */
	bool background;          /* nobody is to be asked anything: the terminal is somebody else's */
	int (*interrupted)(void); /* the signal that came, after which nothing more is asked, nor waited for; NULL:
				   * signals end the process */
	int64_t outlast_ms;       /* the credential should be good for longer than until then; 0: any */
};

/* Loads the profile. On failure it has complained; returns the exit code, else 0. */
int client_open(struct client *c, const struct common_options *common);
/* The same without a word. */
int client_open_quietly(struct client *c, const struct common_options *common);
void client_close(struct client *c);

/* One call; a second one when the server asks to wait for a few seconds (429), after these. body may be NULL; it is not
 * stolen. EXIT_CODE_OK and *out_json (may be NULL for 204; new reference), or it has complained and returns the exit
 * code. */
int client_call(struct client *c, const char *method, const char *path, const json_t *body, json_t **out_json);
/* The same for whoever decides himself what to say: the words, if any, are in why. */
#define CLIENT_WHY 512
int client_try(struct client *c, const char *method, const char *path, const json_t *body, json_t **out_json,
	       char why[CLIENT_WHY]);
/* The exit code for an HTTP answer of 400 and above; complains with its words. */
int client_complain(const struct http_response *r);

#endif
