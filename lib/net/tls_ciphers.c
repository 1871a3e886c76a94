#include "net/tls_ciphers.h"

#ifdef __aarch64__
#include <sys/auxv.h>
#define HWCAP_AES_BIT (1ul << 3)
#endif

bool net_cpu_has_aes(void)
{
#if defined(__x86_64__) || defined(__i386__)
	return __builtin_cpu_supports("aes");
#elif defined(__aarch64__)
	return getauxval(AT_HWCAP) & HWCAP_AES_BIT;
#else
	return false;
#endif
}

void net_tls_prefer_fast_ciphers(SSL_CTX *ctx)
{
	if (!net_cpu_has_aes())
		return;
	SSL_CTX_set_ciphersuites(ctx, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256");
	SSL_CTX_set_options(ctx, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
}
