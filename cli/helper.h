/* Programs of ours that no user runs: <prefix>/libexec/tunnel beside <prefix>/bin. */
#ifndef CLI_HELPER_H
#define CLI_HELPER_H

#include <limits.h>
#include <stdbool.h>

/* Where this program is; "" when the kernel does not tell. */
void helper_self(char out[PATH_MAX]);
/* False: it is not installed, or somebody but root and this user could have put it there. */
bool helper_find(const char *name, char out[PATH_MAX]);

#endif
