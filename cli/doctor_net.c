/* The way to the server, step by step, as the programs go it. */
#include "cli/doctor.h"

#include "base/clock.h"
#include "net/proxy.h"
#include "net/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECT_MS 5000
#define HANDSHAKE_S 8
#define SOON_DAYS 7          /* a certificate that ends sooner is told of */
#define CLOCK_LIMIT_MS 60000 /* between this clock and the server's; signatures bear some minutes */

void doctor_check_proxy(struct doctor *d, struct doctor_found *f)
{
	struct proxy p = { .used = false };
	struct err e = { 0 };
	if (proxy_choose(d->client.profile.proxy, &d->server, &p, &e) != 0) {
		doctor_say(f, DOCTOR_FAILED, "%s", e.text);
		doctor_advise(f, "set proxy in the profile, or https_proxy, to http://HOST:PORT");
		return;
	}
	d->proxied = p.used;
	if (p.used)
		doctor_say(f, DOCTOR_OK, "%s:%u, of %s", p.host, p.port,
			   d->client.profile.proxy ? "the profile" : "the environment");
	else
		doctor_say(f, DOCTOR_OK, "none");
	proxy_free(&p);
}

static int look_up(const struct doctor *d, struct addrinfo **out, struct doctor_found *f)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
	char service[8];
	snprintf(service, sizeof service, "%u", d->server.port);
	int rc = getaddrinfo(d->server.host, service, &hints, out);
	if (rc == 0)
		return 0;
	doctor_say(f, DOCTOR_FAILED, "%s: %s", d->server.host, gai_strerror(rc));
	doctor_advise(f, "check the name in server of the profile, and this machine's resolver: getent hosts %s",
		      d->server.host);
	return rc;
}

void doctor_check_dns(struct doctor *d, struct doctor_found *f)
{
	struct addrinfo *list = NULL;
	if (d->proxied) {
		doctor_say(f, DOCTOR_SKIPPED, "the proxy looks names up");
		return;
	}
	if (look_up(d, &list, f) != 0)
		return;
	char text[300] = "";
	for (const struct addrinfo *a = list; a; a = a->ai_next) {
		char address[64];
		size_t n = strlen(text);
		if (getnameinfo(a->ai_addr, a->ai_addrlen, address, sizeof address, NULL, 0, NI_NUMERICHOST) == 0)
			snprintf(text + n, sizeof text - n, "%s%s", n ? ", " : "", address);
	}
	freeaddrinfo(list);
	doctor_say(f, DOCTOR_OK, "%s is %s", d->server.host, text);
}

/* 0 or an errno. */
static int connect_in_time(const struct addrinfo *a, int *out_fd)
{
	int fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), error = errno;
	if (fd < 0)
		return error;
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	socklen_t len = sizeof error;
	error = connect(fd, a->ai_addr, a->ai_addrlen) == 0 ? 0 : errno;
	if (error == EINPROGRESS && poll(&p, 1, CONNECT_MS) == 0)
		error = ETIMEDOUT;
	else if (error == EINPROGRESS)
		getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
	if (error == 0)
		*out_fd = fd;
	else
		close(fd);
	return error;
}

static int connect_any(const struct doctor *d, struct doctor_found *f, int *out_fd)
{
	struct addrinfo *list = NULL;
	int error = look_up(d, &list, f);
	if (error != 0)
		return error;
	error = EHOSTUNREACH;
	for (const struct addrinfo *a = list; a && error != 0; a = a->ai_next)
		error = connect_in_time(a, out_fd);
	freeaddrinfo(list);
	if (error == 0)
		return 0;
	doctor_say(f, DOCTOR_FAILED, "%s port %u: %s", d->server.host, d->server.port, strerror(error));
	doctor_advise(
		f,
		error == ECONNREFUSED
			? "nothing listens there: check the port in server of the profile, and that tunnel-server runs"
			: "something on the way drops it: a firewall here or there, or a proxy that has to be used "
			  "(proxy in the profile)");
	return error;
}

void doctor_check_tcp(struct doctor *d, struct doctor_found *f)
{
	int fd = -1;
	int64_t began_ms = clock_mono_ms();
	if (d->proxied) {
		doctor_say(f, DOCTOR_SKIPPED, "through the proxy; see tls");
		return;
	}
	if (connect_any(d, f, &fd) != 0)
		return;
	doctor_say(f, DOCTOR_OK, "connected to port %u in %lld ms", d->server.port,
		   (long long)(clock_mono_ms() - began_ms));
	close(fd);
}

static void judge_certificate(SSL *ssl, struct doctor_found *f)
{
	X509 *cert = SSL_get1_peer_certificate(ssl);
	int days = 0, seconds = 0;
	char issuer[200] = "?";
	if (!cert || ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(cert)) != 1) {
		doctor_say(f, DOCTOR_FAILED, "the server has shown no certificate that can be read");
	} else {
		X509_NAME_oneline(X509_get_issuer_name(cert), issuer, sizeof issuer);
		doctor_say(f, days < SOON_DAYS ? DOCTOR_FAILED : DOCTOR_OK,
			   "%s, certificate by %s, good for %d more days", SSL_get_version(ssl), issuer, days);
		doctor_advise(f, "tell who runs the server: it reads a new certificate on SIGHUP, or by itself");
	}
	X509_free(cert);
}

static void judge_refusal(const struct doctor *d, SSL *ssl, struct doctor_found *f)
{
	long why = SSL_get_verify_result(ssl);
	struct err e = { 0 };
	if (why == X509_V_OK) {
		err_set_openssl(&e, ERR_PROTOCOL, "no TLS with %s port %u", d->server.host, d->server.port);
		doctor_say(f, DOCTOR_FAILED, "%s", e.text);
		doctor_advise(f, "check that the port in server of the profile is tunnel-server's");
		return;
	}
	doctor_say(f, DOCTOR_FAILED, "%s: %s", d->server.host, X509_verify_cert_error_string(why));
	if (why == X509_V_ERR_HOSTNAME_MISMATCH || why == X509_V_ERR_IP_ADDRESS_MISMATCH)
		doctor_advise(f, "use a name of the certificate in server of the profile");
	else if (why == X509_V_ERR_CERT_HAS_EXPIRED || why == X509_V_ERR_CERT_NOT_YET_VALID)
		doctor_advise(f, "if this machine's clock is right, the server needs another certificate");
	else
		doctor_advise(f, "ca_file in the profile names the CA to trust: now %s",
			      d->client.profile.ca_file ? d->client.profile.ca_file : "the system's");
}

/* By libcurl, which goes through proxies, and without a credential. */
static int get_health(const struct doctor *d, struct http_response *out, struct err *e)
{
	char url[600];
	int rc = url_join(d->client.profile.servers.at[0], "/healthz", url, sizeof url, e);
	const struct http_request q = {
		.method = "GET", .url = url, .ca_file = d->client.profile.ca_file, .proxy = d->client.profile.proxy
	};
	return rc != 0 ? rc : http_call_blocking(&q, out, e);
}

static void check_through_proxy(const struct doctor *d, struct doctor_found *f)
{
	struct http_response r = { 0 };
	struct err e = { 0 };
	if (get_health(d, &r, &e) == 0) {
		doctor_say(f, DOCTOR_OK, "through the proxy (when the certificate ends was not looked at)");
	} else {
		doctor_say(f, DOCTOR_FAILED, "through the proxy: %s", e.text);
		doctor_advise(f, "check that the proxy lets CONNECT to %s:%u through, and ca_file in the profile",
			      d->server.host, d->server.port);
	}
	http_response_free(&r);
}

void doctor_check_tls(struct doctor *d, struct doctor_found *f)
{
	struct net_tls *tls = NULL;
	struct err e = { 0 };
	int fd = -1;
	if (d->proxied) {
		check_through_proxy(d, f);
		return;
	}
	if (net_tls_new(d->client.profile.ca_file, &tls, &e) != 0) {
		doctor_say(f, DOCTOR_FAILED, "%s", e.text);
		doctor_advise(f, "ca_file in the profile has to be a PEM file of CA certificates");
		return;
	}
	if (connect_any(d, f, &fd) == 0) {
		const struct timeval limit = { .tv_sec = HANDSHAKE_S };
		SSL *ssl = net_tls_client(tls, d->server.host, d->server.port, &e);
		fcntl(fd, F_SETFL, 0);
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
		if (!ssl || SSL_set_fd(ssl, fd) != 1)
			doctor_say(f, DOCTOR_FAILED, "TLS: %s", e.text);
		else if (SSL_connect(ssl) == 1)
			judge_certificate(ssl, f);
		else
			judge_refusal(d, ssl, f);
		SSL_free(ssl);
		close(fd);
	}
	net_tls_free(&tls);
}

void doctor_check_clock(struct doctor *d, struct doctor_found *f)
{
	struct http_response r = { 0 };
	struct err e = { 0 };
	int64_t server_ms = 0, began_ms = clock_wall_ms();
	int rc = get_health(d, &r, &e);
	int64_t now_ms = clock_wall_ms();
	const char *time = json_string_value(json_object_get(r.json, "time"));
	if (rc != 0) {
		doctor_say(f, DOCTOR_FAILED, "%s", e.text);
		doctor_advise(f, "check that server of the profile is a tunnel-server's URL");
	} else if (!time || clock_parse(time, &server_ms) != 0) {
		doctor_say(f, DOCTOR_SKIPPED, "the server does not tell its time");
	} else {
		/* The answer was written somewhere between. */
		int64_t off_ms = server_ms < began_ms ? server_ms - began_ms
				 : server_ms > now_ms ? server_ms - now_ms
						      : 0;
		int64_t far_ms = off_ms < 0 ? -off_ms : off_ms;
		doctor_say(f, far_ms > CLOCK_LIMIT_MS ? DOCTOR_FAILED : DOCTOR_OK, "%.1f s %s the server's",
			   (double)far_ms / 1000, off_ms > 0 ? "behind" : "ahead of");
		doctor_advise(f, "set this machine's clock (timedatectl set-ntp true), or tell who runs the server");
	}
	http_response_free(&r);
}
