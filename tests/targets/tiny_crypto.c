// SPDX-License-Identifier: Apache-2.0
/* As much of a libcrypto as keeps thread-local values: for C libraries without a packaged one. */
#include <pthread.h>

int CRYPTO_THREAD_init_local(unsigned int *key, void (*cleanup)(void *))
{
	pthread_key_t made;

	if (pthread_key_create(&made, cleanup))
		return 0;
	*key = made;
	return 1;
}

void *CRYPTO_THREAD_get_local(unsigned int *key)
{
	return pthread_getspecific(*key);
}

int CRYPTO_THREAD_set_local(unsigned int *key, void *value)
{
	return pthread_setspecific(*key, value) == 0;
}

int CRYPTO_THREAD_cleanup_local(unsigned int *key)
{
	return pthread_key_delete(*key) == 0;
}
