// SPDX-License-Identifier: Apache-2.0
/* Stands for a libcrypto that exports the functions of OpenSSL 3.6; they only have to be called. */
int CRYPTO_THREAD_init_local(unsigned int *key, void (*cleanup)(void *))
{
	(void)cleanup;
	*key = 7;
	return 1;
}

int CRYPTO_THREAD_set_local(unsigned int *key, void *value)
{
	return *key == 7 && value != (void *)1;
}

int CRYPTO_THREAD_cleanup_local(unsigned int *key)
{
	*key = 0;
	return 1;
}

int CRYPTO_THREAD_set_local_ex(int id, void *context, void *value)
{
	return id >= 0 && context != value;
}

void CRYPTO_THREAD_clean_local(void)
{
	__asm__ volatile("");
}
