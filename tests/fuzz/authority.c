#include "authority.h"

#include "fuzz.h"

EVP_PKEY *authority(void)
{
	static EVP_PKEY *key;
	if (!key)
		key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, (const uint8_t[32]){ 1 }, 32);
	FUZZ_CHECK(key);
	return key;
}
