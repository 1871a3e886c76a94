#include "net/ws_upgrade.h"

#include "base/secret.h"
#include "base/text.h"

#include <ctype.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#define ACCEPT_GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

static bool is_header_name(const char *name)
{
	for (const char *p = name; *p; p++)
		if (!isalnum((unsigned char)*p) && !strchr("!#$%&'*+-.^_`|~", *p))
			return false;
	return *name != '\0';
}

static bool is_header_value(const char *value)
{
	for (const unsigned char *p = (const unsigned char *)value; *p; p++)
		if (*p < ' ' && *p != '\t')
			return false;
	return true;
}

static int add_headers(const struct ws_header *headers, struct buf *out, struct err *e)
{
	for (const struct ws_header *h = headers; h && h->name; h++) {
		if (!is_header_name(h->name) || !is_header_value(h->value))
			return err_set(e, ERR_INVALID,
				       "header \"%.40s\": name or value has characters that HTTP does "
				       "not allow",
				       h->name);
		if (buf_printf(out, "%s: %s\r\n", h->name, h->value) != 0)
			return err_set(e, ERR_LIMIT, "the request's headers are longer than %zu bytes", out->max);
	}
	return 0;
}

int ws_upgrade_request(const struct url *url, const char *subprotocol, const struct ws_header *headers,
		       char out_key[WS_UPGRADE_KEY], struct buf *out, struct err *e)
{
	unsigned char nonce[16];
	char authority[sizeof url->host + 10];
	secret_random(nonce, sizeof nonce);
	text_b64(nonce, sizeof nonce, out_key, WS_UPGRADE_KEY);
	url_authority(url, authority, sizeof authority);
	if (subprotocol && !is_header_name(subprotocol))
		return err_set(e, ERR_INVALID, "subprotocol \"%.40s\" is not a token", subprotocol);
	int rc = buf_printf(out,
			    "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
			    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n",
			    url->path, authority, out_key);
	if (rc == 0 && subprotocol)
		rc = buf_printf(out, "Sec-WebSocket-Protocol: %s\r\n", subprotocol);
	if (rc != 0)
		return err_set(e, rc, "the upgrade request does not fit");
	rc = add_headers(headers, out, e);
	if (rc == 0 && buf_add_text(out, "\r\n") != 0)
		rc = err_set(e, ERR_LIMIT, "the request's headers are longer than %zu bytes", out->max);
	return rc;
}

int ws_upgrade_accept(const char *key, char out_accept[WS_UPGRADE_ACCEPT], struct err *e)
{
	char joined[WS_UPGRADE_KEY + sizeof ACCEPT_GUID];
	unsigned char digest[20];
	snprintf(joined, sizeof joined, "%s%s", key, ACCEPT_GUID);
	if (EVP_Digest(joined, strlen(joined), digest, NULL, EVP_sha1(), NULL) != 1)
		return err_set_openssl(e, ERR_INTERNAL, "SHA-1");
	text_b64(digest, sizeof digest, out_accept, WS_UPGRADE_ACCEPT);
	return 0;
}

int ws_upgrade_check(const struct http1_head *head, const char *key, const char *subprotocol, struct err *e)
{
	char expected[WS_UPGRADE_ACCEPT], accept[64], chosen[128];
	int rc = ws_upgrade_accept(key, expected, e);
	if (rc != 0)
		return rc;
	if (!http1_header_has(head, "Upgrade", "websocket") || !http1_header_has(head, "Connection", "upgrade"))
		return err_set(e, ERR_PROTOCOL, "the upgrade's answer is not for a WebSocket");
	if (!http1_header(head, "Sec-WebSocket-Accept", accept, sizeof accept) || strcmp(accept, expected) != 0)
		return err_set(e, ERR_PROTOCOL, "the upgrade's answer is not for our key");
	if (http1_header(head, "Sec-WebSocket-Extensions", chosen, sizeof chosen))
		return err_set(e, ERR_PROTOCOL, "the server chose an extension that was not offered");
	bool has = http1_header(head, "Sec-WebSocket-Protocol", chosen, sizeof chosen);
	if (has != (subprotocol != NULL) || (has && strcmp(chosen, subprotocol) != 0))
		return err_set(e, ERR_PROTOCOL, "the server did not choose the subprotocol %s",
			       subprotocol ? subprotocol : "(none)");
	return 0;
}
