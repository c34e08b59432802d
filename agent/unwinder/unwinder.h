// SPDX-License-Identifier: Apache-2.0
#ifndef KAMOTEL_UNWINDER_H
#define KAMOTEL_UNWINDER_H

#include <elfutils/libdw.h>
#include <stdbool.h>
#include <stddef.h>

#include "protocol.h"

#define SOCKET_FD   3
#define PROGRESS_FD 4

#define MAX_FILES     512
#define MAX_SPACES    16
#define MAX_FILE_SIZE (96ull << 20)
#define MAX_MAPPED    (144ull << 20) /* all files together; RLIMIT_AS is 256 MiB */
#define MAX_HEAP      (64ull << 20)
#define MAX_LOADS     64
#define MAX_SYMBOLS   (1u << 20)

struct load {
	uint64_t vaddr;
	uint64_t offset;
	uint64_t filesz;
};

/* One function symbol. The name stays in the file. */
struct symbol {
	uint64_t start;
	uint64_t size;
	uint32_t name; /* offset in the string table */
	uint8_t table;
	uint8_t rank; /* of names for one place the lowest wins */
};

struct file {
	uint64_t id; /* 0: free */
	uint64_t used;
	enum ku_detail bad;
	const uint8_t *image;
	size_t size;
	struct load loads[MAX_LOADS]; /* the executable ones */
	unsigned int load_count;
	Elf *elf;
	Dwarf_CFI *cfi;
	bool cfi_tried;
	bool symbols_tried;
	struct symbol *symbols;
	size_t symbol_count;
	struct {
		const uint8_t *start;
		size_t size;
	} strings[2];
};

struct space {
	uint64_t id; /* 0: free */
	uint64_t used;
	uint32_t count;
	struct ku_mapping *mappings;
};

/* isolation.c */
void isolate(void);

/* files.c */
struct file *find_file(uint64_t id);
/* Takes the descriptor over. Without one (-1) the file is bad for the reason given. */
struct file *add_file(uint64_t id, int fd, enum ku_detail reason);
void forget_file(uint64_t id);
/* Keeps memory bounded; no file that was found before is good afterwards. */
void trim_files(void);
bool file_bias(const struct file *file, const struct ku_mapping *mapping, uint64_t *bias);
Dwarf_CFI *file_cfi(struct file *file);
/* The name is not terminated. False when the address lies in no sized function. */
bool find_function(struct file *file, uint64_t address, const char **name, size_t *length,
		   uint64_t *start);

/* frames.c */
struct answer {
	enum ku_end end;
	enum ku_detail detail;
	uint32_t count;
	uint32_t names_length;
	struct ku_frame frames[KU_MAX_FRAMES];
	char names[KU_MAX_FRAMES * KU_MAX_NAME];
};
void unwind(const struct ku_unwind *request, const uint8_t *bytes, const struct space *space,
	    struct answer *answer);

/* kamotel-unwind.c: asks the agent for a file that is not here. Never null. */
struct file *need_file(uint64_t id);

#endif
