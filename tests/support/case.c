#include "support/case.h"

#include <ftw.h>
#include <unistd.h>

void case_filter(const char *name)
{
	cmocka_set_test_filter(name);
}

char *case_folder(char out[64])
{
	const char *tmp = getenv("TMPDIR");
	snprintf(out, 64, "%s/tunnel-test-XXXXXX", tmp && strlen(tmp) < 40 ? tmp : "/tmp");
	if (!mkdtemp(out))
		abort();
	return out;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

void case_folder_remove(const char *path)
{
	nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}
