/* Reads no more of libconfig's language than it takes to find `secret = "…"` outside of comments and other texts. What
 * it does not understand it leaves to libconfig. */
#include "mask.h"

#include "credentials.h"

#include <openssl/crypto.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MARK '\x01' /* what a mark begins with; its number follows */
#define FILLER '.'

/* In the program's memory for keys, which is not swapped. That has an end and TLS needs it, too: no room there for the
 * long ones, lest a whole file of them fill it. */
static char *keep(const char *secret, size_t n)
{
	char *copy = n + 1 <= SECRET_LOCKED ? OPENSSL_secure_malloc(n + 1) : NULL;
	if (copy || (copy = OPENSSL_malloc(n + 1))) {
		memcpy(copy, secret, n);
		copy[n] = '\0';
	}
	return copy;
}

void secret_free(char *secret)
{
	if (secret)
		OPENSSL_secure_clear_free(secret, strlen(secret));
}

/* Behind the comment or text that begins here, or here. */
static char *skip(char *p)
{
	if (p[0] == '#' || (p[0] == '/' && p[1] == '/'))
		return p + strcspn(p, "\n");
	if (p[0] == '/' && p[1] == '*') {
		char *end = strstr(p + 2, "*/");
		return end ? end + 2 : p + strlen(p);
	}
	if (p[0] != '"')
		return p;
	for (p++; *p && *p != '"'; p++)
		if (*p == '\\' && p[1])
			p++;
	return *p ? p + 1 : p;
}

static char *skip_blanks(char *p)
{
	for (char *next; (next = p + strspn(p, " \t\r\n\f")) != p || (*p != '"' && (next = skip(p)) != p);)
		p = next;
	return p;
}

static size_t name_length(const char *p)
{
	return strspn(p, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_*");
}

/* from is the first character behind a quote. */
static void mask_one(struct mask *m, char *from)
{
	size_t n = strcspn(from, "\"\\\n");
	if (from[n] != '"' || n < SECRET_MIN || n > SECRET_MAX || m->n == CREDENTIALS_MAX || from[0] == MARK ||
	    *skip_blanks(from + n + 1) == '"')
		return;
	char *secret = keep(from, n);
	if (!secret)
		return;
	memset(from, FILLER, n);
	from[0] = MARK;
	from[1 + snprintf(from + 1, n - 1, "%zu", m->n)] = FILLER;
	m->at[m->n++] = secret;
}

void mask_secrets(struct mask *m, char *text)
{
	m->n = 0;
	m->at = calloc(CREDENTIALS_MAX, sizeof *m->at);
	for (char *p = text; m->at && *p;) {
		size_t n = name_length(p);
		if (n == 0) {
			char *behind = skip(p);
			p = behind == p ? p + 1 : behind;
			continue;
		}
		bool found = n == strlen("secret") && memcmp(p, "secret", n) == 0;
		p += n;
		if (!found)
			continue;
		p = skip_blanks(p);
		if (*p != '=' && *p != ':')
			continue;
		p = skip_blanks(p + 1);
		if (*p == '"') {
			mask_one(m, p + 1);
			p = skip(p);
		}
	}
}

static char **find(const struct mask *m, const char *text)
{
	char *end = NULL;
	unsigned long i = strtoul(text + 1, &end, 10);
	return end != text + 1 && i < m->n ? &m->at[i] : NULL;
}

const char *mask_secret(const struct mask *m, const char *text)
{
	if (text[0] != MARK)
		return text;
	char **secret = find(m, text);
	return secret ? *secret : NULL;
}

char *mask_take(struct mask *m, const char *text)
{
	if (text[0] != MARK)
		return keep(text, strlen(text));
	char **secret = find(m, text), *taken = secret ? *secret : NULL;
	if (secret)
		*secret = NULL;
	return taken;
}

void mask_free(struct mask *m)
{
	for (size_t i = 0; i < m->n; i++)
		secret_free(m->at[i]);
	free(m->at);
	m->at = NULL;
	m->n = 0;
}
