#include "server/metrics_process.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

static int print(struct buf *b, const char *name, const char *type, const char *help, double value)
{
	return buf_printf(b, "# HELP %s %s\n# TYPE %s %s\n%s %.15g\n", name, help, name, type, name, value);
}

static int print_memory(struct buf *b)
{
	long pages = 0, resident = 0;
	FILE *f = fopen("/proc/self/statm", "re");
	int n = f ? fscanf(f, "%ld %ld", &pages, &resident) : 0;
	if (f)
		fclose(f);
	if (n != 2)
		return 0;
	return print(b, "process_resident_memory_bytes", "gauge", "memory in use",
		     (double)resident * (double)sysconf(_SC_PAGESIZE));
}

static int print_descriptors(struct buf *b)
{
	struct rlimit limit;
	int count = -3; /* ".", ".." and the folder itself */
	DIR *d = opendir("/proc/self/fd");
	for (const struct dirent *entry; d && (entry = readdir(d)) != NULL;)
		count++;
	int rc = d ? print(b, "process_open_fds", "gauge", "open file descriptors", count) : 0;
	if (d)
		closedir(d);
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
		rc |= print(b, "process_max_fds", "gauge", "file descriptors that may be open", (double)limit.rlim_cur);
	return rc;
}

int metrics_process_print(struct buf *b)
{
	struct rusage used;
	int rc = buf_printf(b,
			    "# HELP tunnel_build_info always 1; the labels say which build this is\n"
			    "# TYPE tunnel_build_info gauge\ntunnel_build_info{version=\"%s\"} 1\n",
			    TUNNEL_VERSION);
	if (getrusage(RUSAGE_SELF, &used) == 0)
		rc |= print(b, "process_cpu_seconds_total", "counter", "processor time used",
			    (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
				    (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6);
	return rc | print_memory(b) | print_descriptors(b);
}
