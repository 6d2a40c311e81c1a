/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Stands in for libFuzzer where that is not there, so that the fuzz_*.c always compile: gives each file named on
 * the command line to the fuzzer's entry once. With it, an input that libFuzzer found runs under any compiler and
 * in any debugger.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Optional: what a fuzzer does once before its first input. */
int __attribute__((weak)) LLVMFuzzerInitialize(int *argc, char ***argv);

/* The whole file; the input is exactly as large as its memory, so that ASan sees a byte too many. */
static uint8_t *
read_input(const char *path, size_t *size)
{
	FILE *f = fopen(path, "rb");
	uint8_t *data = NULL;
	long end;

	if (f == NULL)
		return NULL;
	if (fseek(f, 0, SEEK_END) != 0 || (end = ftell(f)) < 0 || fseek(f, 0, SEEK_SET) != 0)
		goto out;
	*size = (size_t)end;
	data = malloc(*size != 0 ? *size : 1);
	if (data != NULL && fread(data, 1, *size, f) != *size) {
		free(data);
		data = NULL;
	}
out:
	fclose(f);
	return data;
}

int
main(int argc, char **argv)
{
	if (LLVMFuzzerInitialize != NULL && LLVMFuzzerInitialize(&argc, &argv) != 0)
		return 2;
	if (argc < 2) {
		fprintf(stderr, "usage: %s INPUT...\n", argv[0]);
		return 2;
	}
	for (int i = 1; i < argc; i++) {
		size_t size = 0;
		uint8_t *data = read_input(argv[i], &size);

		if (data == NULL) {
			perror(argv[i]);
			return 1;
		}
		LLVMFuzzerTestOneInput(data, size);
		free(data);
	}
	printf("%d inputs\n", argc - 1);
	return 0;
}
