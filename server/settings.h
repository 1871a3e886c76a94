/* The settings of tunnel-server: one table (settings.c), this struct, and nothing else. */
#ifndef SERVER_SETTINGS_H
#define SERVER_SETTINGS_H

#include "base/conf.h"

enum audit_on_failure { AUDIT_STOP, AUDIT_CONTINUE };

struct settings {
	char *listen;                    /* "0.0.0.0:8443"; port 0: any free one, printed and written to ready_file */
	char *admin_listen;              /* the API and the console; "" none */
	char *advertise_url;             /* how clients and agents reach THIS node */
	struct conf_strings server_urls; /* how they reach any node; default: advertise_url */
	char *node;                      /* default: host name */
	char *state_dir;
	char *plugin_dir;
	char *ready_file; /* written with the URL once everything serves; "" none */
	int64_t reactors; /* 0: one a core */
	int64_t workers;
	bool direct_transport; /* own clients are carried by direct.c; false: by libwebsockets, too */
	char *tls_certificate, *tls_key;
	char *ssh_ca_key;     /* created when missing */
	char *ssh_ca_trusted; /* public keys, one a line; "" none */
	int64_t ssh_certificate_ms;
	char *policy_dir; /* *.json, read at start and on SIGHUP, beside those in the store; "" none */
	bool bind_to_identity;
	int64_t session_lease_ms;                                 /* 0: none */
	int64_t session_max_ms, session_idle_ms, detach_grace_ms; /* idle 0: none */
	int64_t session_warn_ms;                                  /* 0: no notices */
	int64_t limit_per_credential, limit_per_address;          /* refusals a minute; 0: any number (guesses.h) */
	int64_t limit_strangers, limit_strangers_per_address;     /* connections; 0: any number (strangers.h) */
	struct conf_strings limit_except;                         /* addresses and networks */
	int64_t drain_ms;
	int audit_on_failure;            /* enum audit_on_failure */
	char *audit_file, *audit_syslog; /* "": no export */
	int log_level, log_format;
	struct conf_section store;
	struct conf_sections auth;
};

extern const struct conf_row settings_rows[];

int settings_load(const char *path, struct settings *out, struct err *e);
void settings_free(struct settings *s);

#endif
