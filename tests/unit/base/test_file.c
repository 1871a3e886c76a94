#include "support/case.h"

#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <sys/stat.h>

int __real_fsync(int fd);
int __wrap_fsync(int fd);

static int folder_errno; /* of the fsync of a folder; 0: it works */
static int folders_synced;

int __wrap_fsync(int fd)
{
	struct stat st;
	if (fstat(fd, &st) != 0 || !S_ISDIR(st.st_mode))
		return __real_fsync(fd);
	folders_synced++;
	errno = folder_errno;
	return folder_errno ? -1 : 0;
}

static void holds(const char *path, const char *text)
{
	struct buf b;
	assert_int_equal(file_read(path, 100, &b, NULL), 0);
	assert_int_equal(b.len, strlen(text));
	assert_memory_equal(buf_data(&b), text, b.len);
	buf_free(&b);
}

static size_t files_in(const char *folder)
{
	size_t n = 0;
	DIR *dir = opendir(folder);
	for (const struct dirent *entry; (entry = readdir(dir)) != NULL;)
		n += entry->d_name[0] != '.';
	closedir(dir);
	return n;
}

static void test_a_file_is_replaced_whole(void **state)
{
	(void)state;
	char folder[64], path[128];
	snprintf(path, sizeof path, "%s/a/b", case_folder(folder));
	struct err e = { 0 };
	assert_int_equal(file_mkdir(path, 0700, &e), 0);
	strcat(path, "/file");
	struct buf b;
	assert_int_equal(file_write(path, "one", 3, 0600, &e), 0);
	assert_int_equal(file_write(path, "three", 5, 0600, &e), 0);
	holds(path, "three");
	assert_int_equal(file_read(path, 4, &b, &e), ERR_LIMIT);
	case_folder_remove(folder);
}

static void test_what_is_there_is_not_created(void **state)
{
	(void)state;
	char folder[64], path[128];
	struct err e = { 0 };
	snprintf(path, sizeof path, "%s/file", case_folder(folder));
	assert_int_equal(file_create(path, "one", 3, 0600, &e), 0);
	assert_int_equal(file_create(path, "two", 3, 0600, &e), ERR_CONFLICT);
	holds(path, "one");
	assert_int_equal(files_in(folder), 1);
	case_folder_remove(folder);
}

/* A name that may be the old one again after a crash is no success; where file systems know no such thing it is. */
static void test_a_folder_that_is_not_synced_is_told(void **state)
{
	(void)state;
	char folder[64], path[128];
	struct err e = { 0 };
	folders_synced = 0;
	snprintf(path, sizeof path, "%s/file", case_folder(folder));
	assert_int_equal(file_write(path, "one", 3, 0600, &e), 0);
	assert_int_equal(folders_synced, 1);
	folder_errno = EIO;
	assert_int_equal(file_write(path, "two", 3, 0600, &e), ERR_IO);
	assert_non_null(strstr(e.text, path));
	assert_non_null(strstr(e.text, "Input/output error"));
	holds(path, "two");
	folder_errno = EINVAL;
	assert_int_equal(file_write(path, "three", 5, 0600, &e), 0);
	folder_errno = 0;
	assert_int_equal(files_in(folder), 1);
	case_folder_remove(folder);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_file_is_replaced_whole),
		cmocka_unit_test(test_what_is_there_is_not_created),
		cmocka_unit_test(test_a_folder_that_is_not_synced_is_told),
	};
	return RUN_CASES(tests);
}
