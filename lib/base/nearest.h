/* What somebody may have meant who wrote a name that there is not: of those that there are, the nearest, if one is
 * near. */
#ifndef BASE_NEAREST_H
#define BASE_NEAREST_H

#include <stddef.h>

struct nearest {
	const char *wanted; /* set by the caller, the rest 0 */
	char name[65];      /* of the nearest that was offered; "": none is near */
	size_t distance;
	char words[80];
};
/* Longer names than 64 bytes are near to nothing. */
void nearest_offer(struct nearest *n, const char *name);
/* " did you mean tunnel:OpenSsh?", or "". Good as long as n is. */
const char *nearest_words(struct nearest *n);

#endif
