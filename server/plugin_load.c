/* From a name to a checked descriptor.
 *
 * A plugin's constructors run inside dlopen, so everything that can be known before is checked before: that nobody but
 * root and this user could have written the file, the folder that holds it, or a folder above. After it come the entry
 * symbol, size and ABI of the descriptor (the only two members that every ABI shares), and only then the rest, copied
 * into a zeroed struct of our own size. */
#include "server/plugin_internal.h"

#include "base/text.h"

#include <dlfcn.h>
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What ABI 1.0 demands at least; members behind it may be missing. */
#define DESCRIPTOR_MIN (offsetof(struct tunnel_plugin, ops) + sizeof(void *))

struct needed_op {
	size_t offset;
	const char *name;
};
#define NEEDED(type, member)                    \
	{                                       \
		offsetof(type, member), #member \
	}
static const struct needed_op auth_needs[] = { NEEDED(struct tunnel_auth_ops, verify), { 0, NULL } };
static const struct needed_op store_needs[] = {
	NEEDED(struct tunnel_store_ops, get),     NEEDED(struct tunnel_store_ops, put),
	NEEDED(struct tunnel_store_ops, del),     NEEDED(struct tunnel_store_ops, scan),
	NEEDED(struct tunnel_store_ops, append),  NEEDED(struct tunnel_store_ops, read),
	NEEDED(struct tunnel_store_ops, publish), NEEDED(struct tunnel_store_ops, subscribe),
	NEEDED(struct tunnel_store_ops, health),  { 0, NULL },
};

const char *plugin_kind_text(uint32_t kind)
{
	return kind == TUNNEL_KIND_AUTH ? "auth" : kind == TUNNEL_KIND_STORE ? "store" : "unknown";
}

static bool is_plugin_name(const char *s)
{
	size_t n = strlen(s);
	if (n == 0 || n > 64 || s[0] < 'a' || s[0] > 'z')
		return false;
	return strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == n;
}

static int check_owner_and_mode(const char *path, const struct stat *st, const char *what, struct err *e)
{
	if (st->st_uid != 0 && st->st_uid != geteuid())
		return err_set(e, ERR_DENIED,
			       "%s: the %s belongs to user %u; expected root or the user this program runs as (%u)",
			       path, what, (unsigned)st->st_uid, (unsigned)geteuid());
	if (st->st_mode & (S_IWGRP | S_IWOTH))
		return err_set(e, ERR_DENIED,
			       "%s: the %s has mode %04o and is writable by %s; expected: by its owner alone (chmod "
			       "go-w)",
			       path, what, (unsigned)st->st_mode & 07777,
			       st->st_mode & S_IWOTH ? "everybody" : "its group");
	return 0;
}

/* The folder by the strict rule; those above it may be anything that keeps strangers from renaming what is inside. */
static int check_folders(const char *folder, struct err *e)
{
	char path[PATH_MAX];
	snprintf(path, sizeof path, "%s", folder);
	for (bool first = true;; first = false) {
		struct stat st;
		if (stat(path, &st) != 0)
			return err_set_errno(e, ERR_NOT_FOUND, errno, "%s", path);
		int rc = 0;
		if (first)
			rc = check_owner_and_mode(path, &st, "folder", e);
		else if ((st.st_mode & S_IWOTH) && !(st.st_mode & S_ISVTX))
			rc = err_set(e, ERR_DENIED,
				     "%s: a folder above the plugin has mode %04o and is writable by everybody", path,
				     (unsigned)st.st_mode & 07777);
		if (rc != 0)
			return rc;
		char *slash = strrchr(path, '/');
		if (strcmp(path, "/") == 0 || !slash)
			return 0;
		if (slash == path)
			slash++;
		*slash = '\0';
	}
}

/* The file may be a symbolic link: then the link's folder and the real file's folder must both be safe. */
static int check_trust(const char *path, struct err *e)
{
	char copy[PATH_MAX], link_folder[PATH_MAX], real[PATH_MAX];
	snprintf(copy, sizeof copy, "%s", path);
	if (!realpath(path, real) || !realpath(dirname(copy), link_folder))
		return err_set_errno(e, ERR_NOT_FOUND, errno, "%s: no such plugin", path);
	struct stat st;
	if (stat(real, &st) != 0)
		return err_set_errno(e, ERR_NOT_FOUND, errno, "%s", real);
	if (!S_ISREG(st.st_mode))
		return err_set(e, ERR_INVALID, "%s: not a file; expected a plugin (.so)", path);
	int rc = check_owner_and_mode(path, &st, "file", e);
	if (rc == 0)
		rc = check_folders(link_folder, e);
	if (rc == 0)
		rc = check_folders(dirname(real), e);
	return rc;
}

static int find_file(struct plugin *p, const char *plugin_dir, const char *name, struct err *e)
{
	char path[PATH_MAX], copy[PATH_MAX];
	int n = -1;
	if (name[0] == '/')
		n = snprintf(path, sizeof path, "%s", name);
	else if (is_plugin_name(name))
		n = snprintf(path, sizeof path, "%s/%s.so", plugin_dir, name);
	if (n < 0)
		return err_set(e, ERR_INVALID,
			       "plugin: \"%s\" is not a plugin; allowed: a name of a-z, 0-9 and - or an absolute path",
			       name);
	if ((size_t)n >= sizeof path)
		return err_set(e, ERR_INVALID, "plugin: path too long");
	snprintf(copy, sizeof copy, "%s", path);
	char *base = basename(copy), *dot = strrchr(base, '.');
	if (!dot || strcmp(dot, ".so") != 0)
		return err_set(e, ERR_INVALID, "%s: expected a file name that ends in .so", path);
	*dot = '\0';
	if (!is_plugin_name(base))
		return err_set(e, ERR_INVALID, "%s: expected a file name of a-z, 0-9 and -, before .so", path);
	snprintf(p->name, sizeof p->name, "%s", base);
	p->file = strdup(path);
	return p->file ? check_trust(path, e) : err_set(e, ERR_NOMEM, "out of memory");
}

static int check_identity(const struct plugin *p, enum tunnel_kind kind, struct err *e)
{
	const struct tunnel_plugin *d = &p->desc;
	if (d->kind != TUNNEL_KIND_AUTH && d->kind != TUNNEL_KIND_STORE)
		return err_set(e, ERR_INVALID, "%s: plugin of kind %u; expected %d (auth) or %d (store)", p->file,
			       d->kind, TUNNEL_KIND_AUTH, TUNNEL_KIND_STORE);
	if (kind != PLUGIN_ANY_KIND && d->kind != (uint32_t)kind)
		return err_set(e, ERR_INVALID, "%s: this is a plugin of kind %s; expected kind %s", p->file,
			       plugin_kind_text(d->kind), plugin_kind_text((uint32_t)kind));
	if (d->threads != TUNNEL_THREADS_SERIAL && d->threads != TUNNEL_THREADS_PARALLEL)
		return err_set(e, ERR_INVALID, "%s: threads is %u; expected %d (serial) or %d (parallel)", p->file,
			       d->threads, TUNNEL_THREADS_SERIAL, TUNNEL_THREADS_PARALLEL);
	if (!d->name || strcmp(d->name, p->name) != 0)
		return err_set(e, ERR_INVALID, "%s: the plugin calls itself \"%s\"; expected \"%s\", as its file",
			       p->file, d->name ? d->name : "", p->name);
	const char *missing = !d->open ? "open" : !d->close ? "close" : !d->ops ? "ops" : NULL;
	if (missing)
		return err_set(e, ERR_INVALID, "%s: the descriptor lacks \"%s\"", p->file, missing);
	return 0;
}

static int copy_ops(struct plugin *p, struct err *e)
{
	bool auth = p->desc.kind == TUNNEL_KIND_AUTH;
	size_t room = auth ? sizeof p->ops.auth : sizeof p->ops.store, size;
	memcpy(&size, p->desc.ops, sizeof size);
	memset(&p->ops, 0, sizeof p->ops);
	memcpy(&p->ops, p->desc.ops, size < room ? size : room);
	for (const struct needed_op *op = auth ? auth_needs : store_needs; op->name; op++) {
		static const unsigned char none[sizeof(void (*)(void))];
		if (op->offset + sizeof none > size)
			return err_set(e, ERR_INVALID,
				       "%s: its table of operations has %zu bytes and ends before \"%s\"; expected at "
				       "least %zu",
				       p->file, size, op->name, op->offset + sizeof none);
		if (memcmp((const char *)&p->ops + op->offset, none, sizeof none) == 0)
			return err_set(e, ERR_INVALID, "%s: its table of operations lacks \"%s\"", p->file, op->name);
	}
	return 0;
}

static int copy_descriptor(struct plugin *p, const struct tunnel_plugin *theirs, struct err *e)
{
	size_t size;
	uint32_t abi;
	memcpy(&size, theirs, sizeof size);
	if (size < offsetof(struct tunnel_plugin, abi) + sizeof abi)
		return err_set(e, ERR_INVALID, "%s: its descriptor has %zu bytes; expected at least %zu", p->file, size,
			       DESCRIPTOR_MIN);
	memcpy(&abi, (const char *)theirs + offsetof(struct tunnel_plugin, abi), sizeof abi);
	if (abi >> 16 != TUNNEL_ABI_MAJOR)
		return err_set(e, ERR_INVALID,
			       "%s: built for plugin ABI %u.%u; expected %u.x (build it again with this server's "
			       "headers)",
			       p->file, abi >> 16, abi & 0xffff, TUNNEL_ABI_MAJOR);
	if (size < DESCRIPTOR_MIN)
		return err_set(e, ERR_INVALID, "%s: its descriptor has %zu bytes; expected at least %zu", p->file, size,
			       DESCRIPTOR_MIN);
	memcpy(&p->desc, theirs, size < sizeof p->desc ? size : sizeof p->desc);
	return 0;
}

static int open_library(struct plugin *p, struct err *e)
{
	p->library = dlopen(p->file, RTLD_NOW | RTLD_LOCAL);
	if (!p->library) {
		const char *why = dlerror();
		const char *rest = why ? why : "cannot be loaded";
		size_t n = strlen(p->file); /* the loader mostly begins with the file's name itself */
		if (strncmp(rest, p->file, n) == 0 && rest[n] == ':')
			rest += n + 1 + strspn(rest + n + 1, " ");
		return err_set(e, ERR_INVALID, "%s: cannot be loaded: %s", p->file, rest);
	}
	void *symbol = dlsym(p->library, TUNNEL_PLUGIN_ENTRY);
	if (!symbol)
		return err_set(e, ERR_INVALID, "%s: not a plugin: expected the symbol %s, found none", p->file,
			       TUNNEL_PLUGIN_ENTRY);
	tunnel_plugin_entry_fn *entry;
	memcpy(&entry, &symbol, sizeof entry); /* ISO C has no conversion from object to function pointers */
	const struct tunnel_plugin *theirs = entry();
	if (!theirs)
		return err_set(e, ERR_INVALID, "%s: %s gave no descriptor", p->file, TUNNEL_PLUGIN_ENTRY);
	return copy_descriptor(p, theirs, e);
}

int plugin_load(const char *plugin_dir, const char *name, const char *where, enum tunnel_kind kind,
		struct plugin **out_plugin, struct err *e)
{
	struct plugin *p = calloc(1, sizeof *p);
	if (!p)
		return err_set(e, ERR_NOMEM, "out of memory");
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&p->moved, &attr);
	pthread_condattr_destroy(&attr);
	pthread_mutex_init(&p->lock, NULL);

	int rc = find_file(p, plugin_dir, name, e);
	if (rc == 0)
		rc = open_library(p, e);
	if (rc == 0)
		rc = check_identity(p, kind, e);
	if (rc == 0)
		rc = copy_ops(p, e);
	if (rc == 0)
		rc = plugin_options_check_table(p, e);
	if (rc != 0) {
		plugin_unload(&p);
		if (where)
			err_wrap(e, "%s", where);
		return rc;
	}
	*out_plugin = p;
	return 0;
}

void plugin_unload(struct plugin **plugin)
{
	struct plugin *p = *plugin;
	if (!p)
		return;
	/* A library that was never opened as a plugin can go. One that was stays mapped: threads of it, or
	 * thread-local destructors of libraries below it, may still end after close. */
	if (p->library && !p->is_open)
		dlclose(p->library);
	pthread_mutex_destroy(&p->lock);
	pthread_cond_destroy(&p->moved);
	free(p->file);
	free(p);
	*plugin = NULL;
}
