/* The agent's own list of what may be opened from here. The server's grant cannot widen it. Entries:
 *   ssh                        SSH sessions
 *   tcp:HOST:PORT              HOST: name, *.suffix, address, network (10.0.0.0/8, [fd00::]/8) or *; PORT: 22, 1-1023
 * or *
 *   unix:/PATH                 a unix socket, or with /DIR/ and a star each that is directly in a folder
 *   listen:ADDRESS:PORT        to listen there for a client; ADDRESS: one, a network or *; PORT as above
 * Networks are judged by the address a name resolves to; the connection then goes to that very address. */
#ifndef AGENT_ALLOW_H
#define AGENT_ALLOW_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

struct allow;

int allow_parse(char *const *entries, size_t n, struct allow **out_allow, struct err *e);
void allow_free(struct allow **allow);

bool allow_ssh(const struct allow *allow);
bool allow_tcp(const struct allow *allow); /* some endpoint, whichever */

bool allow_listen(const struct allow *allow, const char *address, uint16_t port); /* port 0: with some port */
bool allow_socket(const struct allow *allow, const char *path);

enum allow_answer {
	ALLOW_NO,
	ALLOW_YES,
	ALLOW_BY_ADDRESS, /* a name that no entry names: resolve it and ask allow_address for each address */
};
enum allow_answer allow_host(const struct allow *allow, const char *host, uint16_t port);
/* Does an address entry hold it? IPv4-mapped IPv6 addresses count as the IPv4 address. */
bool allow_address(const struct allow *allow, const struct sockaddr *address, uint16_t port);

#endif
