/* The nearest of some names to a text that is none of them: by how many letters must be put in, taken out or changed,
 * whatever their case. */
#include "base/nearest.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define LONGEST 64

static size_t least(size_t a, size_t b, size_t c)
{
	size_t m = a < b ? a : b;
	return m < c ? m : c;
}

static char fold(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

static size_t distance(const char *a, const char *b)
{
	size_t row[LONGEST + 1], n = strlen(b);
	for (size_t k = 0; k <= n; k++)
		row[k] = k;
	for (size_t i = 0; a[i]; i++) {
		size_t corner = row[0]++;
		for (size_t k = 0; k < n; k++) {
			size_t above = row[k + 1];
			row[k + 1] = least(above + 1, row[k] + 1, corner + (fold(a[i]) != fold(b[k])));
			corner = above;
		}
	}
	return row[n];
}

void nearest_offer(struct nearest *n, const char *name)
{
	/* who leaves "tunnel:" out means it */
	const char *colon = strchr(n->wanted, ':') ? NULL : strchr(name, ':');
	const char *text = colon ? colon + 1 : name;
	size_t len = strlen(text);
	if (strlen(name) > LONGEST || strlen(n->wanted) > LONGEST)
		return;
	size_t far = distance(n->wanted, text), written = strlen(n->wanted);
	/* who has written more than half of a name, and nothing wrong, left the rest out */
	if (far > 1 && written * 2 > len && strncasecmp(n->wanted, text, written) == 0)
		far = 1;
	if (far * 3 > len || (*n->name && far >= n->distance))
		return;
	snprintf(n->name, sizeof n->name, "%s", name);
	n->distance = far;
}

const char *nearest_words(struct nearest *n)
{
	n->words[0] = '\0';
	if (*n->name)
		snprintf(n->words, sizeof n->words, " did you mean %s?", n->name);
	return n->words;
}
