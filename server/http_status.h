/* The words of the statuses that we send (RFC 9110, section 15; 431: RFC 6585). */
#ifndef SERVER_HTTP_STATUS_H
#define SERVER_HTTP_STATUS_H

const char *http_status_text(int status); /* static; "Unknown" for others */

#endif
