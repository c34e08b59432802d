/* A program that carries a function which is usually a library's, as programs with a static
 * libcrypto do. */
int CRYPTO_THREAD_set_local(unsigned int *key, void *value)
{
	return *key != 0 && value != 0;
}

int main(int argc, char **argv)
{
	unsigned int key = (unsigned int)argc;
	return CRYPTO_THREAD_set_local(&key, argv) ? 0 : 1;
}
