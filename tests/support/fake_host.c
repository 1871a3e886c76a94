#include "support/fake_host.h"

#include "base/text.h"
#include "support/case.h"

#include <dlfcn.h>
#include <sys/random.h>

static void host_log(void *ctx, enum tunnel_log_level level, const char *text)
{
	static const char *const names[] = { "error", "warn", "info", "debug" };
	struct fake_host *h = ctx;
	pthread_mutex_lock(&h->lock);
	size_t used = strlen(h->log);
	snprintf(h->log + used, sizeof h->log - used, "%s: %s\n", names[level], text);
	h->errors += level == TUNNEL_LOG_ERROR;
	pthread_mutex_unlock(&h->lock);
}

static int64_t host_wall(void *ctx)
{
	return ((struct fake_host *)ctx)->wall_ms;
}

static int64_t host_mono(void *ctx)
{
	return ((struct fake_host *)ctx)->mono_ms;
}

static void host_random(void *ctx, void *out, size_t n)
{
	(void)ctx;
	if (getrandom(out, n, 0) != (ssize_t)n)
		abort();
}

static struct fake_count *counter(struct fake_host *h, const char *name)
{
	struct fake_count *c = h->counts;
	while (c->name[0] && strcmp(c->name, name) != 0)
		c++;
	if (c == h->counts + sizeof h->counts / sizeof *h->counts - 1)
		abort();
	snprintf(c->name, sizeof c->name, "%s", name);
	return c;
}

static void host_count(void *ctx, const char *name, uint64_t n)
{
	struct fake_host *h = ctx;
	pthread_mutex_lock(&h->lock);
	counter(h, name)->n += n;
	pthread_mutex_unlock(&h->lock);
}

uint64_t fake_host_count(struct fake_host *h, const char *name)
{
	pthread_mutex_lock(&h->lock);
	uint64_t n = counter(h, name)->n;
	pthread_mutex_unlock(&h->lock);
	return n;
}

void fake_host_expect_errors(struct fake_host *h, unsigned n)
{
	h->errors_expected += n;
}

void fake_host_pass(struct fake_host *h, int64_t ms)
{
	h->wall_ms += ms;
	h->mono_ms += ms;
}

void fake_plugin_load(struct fake_plugin *p, const char *file)
{
	tunnel_plugin_entry_fn *entry;
	memset(p, 0, sizeof *p);
	pthread_mutex_init(&p->host.lock, NULL);
	p->host.host = (struct tunnel_host){ .size = sizeof p->host.host,
					     .abi = TUNNEL_ABI,
					     .ctx = &p->host,
					     .log = host_log,
					     .wall_ms = host_wall,
					     .mono_ms = host_mono,
					     .random = host_random,
					     .count = host_count };
	p->library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
	if (!p->library)
		fail_msg("%s", dlerror());
	void *symbol = dlsym(p->library, TUNNEL_PLUGIN_ENTRY);
	assert_non_null(symbol);
	memcpy(&entry, &symbol, sizeof entry);
	p->desc = entry();
	assert_int_equal(p->desc->abi, TUNNEL_ABI);
}

/* A default as the host hands it over. */
static const char *converted(const struct tunnel_option_spec *row, char out[32])
{
	int64_t n = 0;
	if (row->type != TUNNEL_OPTION_DURATION && row->type != TUNNEL_OPTION_SIZE)
		return row->def;
	int rc = row->type == TUNNEL_OPTION_DURATION ? text_parse_duration_ms(row->def, &n)
						     : text_parse_size(row->def, &n);
	assert_int_equal(rc, 0);
	snprintf(out, 32, "%lld", (long long)n);
	return out;
}

int fake_plugin_open(struct fake_plugin *p, const char *const *pairs)
{
	struct tunnel_option options[64];
	char numbers[64][32];
	size_t n = 0;
	for (size_t i = 0; pairs[i]; i += 2, n++)
		options[n] = (struct tunnel_option){ sizeof *options, pairs[i], pairs[i + 1], "test.conf:1" };
	for (const struct tunnel_option_spec *row = p->desc->options; row->key; row++) {
		int given = 0;
		for (size_t i = 0; pairs[i]; i += 2)
			given |= strcmp(pairs[i], row->key) == 0;
		if (given || !row->def)
			continue;
		options[n] = (struct tunnel_option){ sizeof *options, row->key, converted(row, numbers[n]), "default" };
		n++;
	}
	p->err[0] = '\0';
	return p->desc->open(&p->host.host, options, n, &p->instance, p->err, sizeof p->err);
}

int fake_plugin_reload(struct fake_plugin *p)
{
	p->err[0] = '\0';
	return p->desc->reload(p->instance, p->err, sizeof p->err);
}

void fake_plugin_close(struct fake_plugin *p)
{
	if (p->instance)
		p->desc->close(p->instance);
	p->instance = NULL;
}

void fake_plugin_unload(struct fake_plugin *p)
{
	fake_plugin_close(p);
	if (p->host.errors != p->host.errors_expected)
		fail_msg("the plugin logged %u errors, the test announced %u:\n%s", p->host.errors,
			 p->host.errors_expected, p->host.log);
	dlclose(p->library);
	pthread_mutex_destroy(&p->host.lock);
}

int fake_verify(struct fake_plugin *p, const struct tunnel_auth_request *request, struct tunnel_identity *out,
		char *err)
{
	const struct tunnel_auth_ops *ops = p->desc->ops;
	struct tunnel_call call = {
		.size = sizeof call, .request_id = "r-1", .err = err ? err : p->err, .err_len = sizeof p->err
	};
	memset(out, 0, sizeof *out);
	out->size = sizeof *out;
	call.err[0] = '\0';
	return ops->verify(p->instance, &call, request, out);
}
