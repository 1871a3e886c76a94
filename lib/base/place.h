/* Where somebody listens, as a grant and a session's allow have it: "127.0.0.1:8080", "[::1]:0". */
#ifndef BASE_PLACE_H
#define BASE_PLACE_H

#include <stddef.h>
#include <stdint.h>

#define PLACE_ADDRESS 46 /* INET6_ADDRSTRLEN */

/* An IP address, IPv6 in brackets, and a port; 0: any that is free. The address comes out in its one spelling (IPv4
 * that is written as IPv6 as IPv4). Returns 0 or ERR_INVALID. */
int place_parse(const char *text, char out_address[PLACE_ADDRESS], uint16_t *out_port);
/* The one spelling of an address without a port. */
int place_address(const char *text, char out_address[PLACE_ADDRESS]);

#endif
