// SPDX-License-Identifier: Apache-2.0
/* Stands for a libcrypto built against another C library: thin wrappers of pthread, as the real
 * ones. */
#include <pthread.h>

int CRYPTO_THREAD_init_local(pthread_key_t *key, void (*cleanup)(void *))
{
	return pthread_key_create(key, cleanup) == 0;
}

int CRYPTO_THREAD_set_local(pthread_key_t *key, void *value)
{
	return pthread_setspecific(*key, value) == 0;
}

void *CRYPTO_THREAD_get_local(pthread_key_t *key)
{
	return pthread_getspecific(*key);
}

int CRYPTO_THREAD_cleanup_local(pthread_key_t *key)
{
	return pthread_key_delete(*key) == 0;
}
