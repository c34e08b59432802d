// SPDX-License-Identifier: Apache-2.0
/* The files of the code: mapped, checked, and kept while there is room. */
#include <elf.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "unwinder.h"

#define PAGE 4096ull

static struct file files[MAX_FILES];
static uint64_t now;
static uint64_t mapped;

static void free_file(struct file *file)
{
	if (file->cfi)
		dwarf_cfi_end(file->cfi);
	if (file->elf)
		elf_end(file->elf);
	if (file->image) {
		munmap((void *)file->image, file->size);
		mapped -= file->size;
	}
	free(file->symbols);
	*file = (struct file){0};
}

struct file *find_file(uint64_t id)
{
	for (int i = 0; id && i < MAX_FILES; i++) {
		if (files[i].id == id) {
			files[i].used = ++now;
			return &files[i];
		}
	}
	return NULL;
}

void forget_file(uint64_t id)
{
	struct file *file = find_file(id);

	if (file)
		free_file(file);
}

/* A free place, or that of the file that was not used for longest. */
static struct file *oldest(bool must_be_mapped)
{
	struct file *found = NULL;

	for (int i = 0; i < MAX_FILES; i++) {
		struct file *file = &files[i];

		if (must_be_mapped && !file->image)
			continue;
		if (!found || file->used < found->used)
			found = file;
	}
	return found;
}

void trim_files(void)
{
	/* What libdw learned of a file cannot be given back in part. */
	if (mallinfo2().uordblks + mallinfo2().hblkhd > MAX_HEAP)
		for (int i = 0; i < MAX_FILES; i++)
			if (files[i].id)
				free_file(&files[i]);
}

/* How the loader maps the file's code. */
static enum ku_detail read_segments(struct file *file)
{
	const Elf64_Ehdr *header = (const Elf64_Ehdr *)file->image;
	uint64_t size = file->size;

	if (size < sizeof(*header) || memcmp(header->e_ident, ELFMAG, SELFMAG) ||
	    header->e_ident[EI_CLASS] != ELFCLASS64 || header->e_ident[EI_DATA] != ELFDATA2LSB ||
	    header->e_ident[EI_VERSION] != EV_CURRENT || header->e_machine != EM_X86_64 ||
	    (header->e_type != ET_EXEC && header->e_type != ET_DYN))
		return KU_DETAIL_NOT_ELF;
	if (header->e_phentsize != sizeof(Elf64_Phdr) || header->e_phnum == PN_XNUM ||
	    header->e_phoff % 8 || header->e_phoff > size ||
	    header->e_phnum > (size - header->e_phoff) / sizeof(Elf64_Phdr))
		return KU_DETAIL_SEGMENTS;

	const Elf64_Phdr *segments = (const Elf64_Phdr *)(file->image + header->e_phoff);

	for (int i = 0; i < header->e_phnum; i++) {
		const Elf64_Phdr *segment = &segments[i];

		if (segment->p_type != PT_LOAD || !(segment->p_flags & PF_X))
			continue;
		if (file->load_count == MAX_LOADS || segment->p_offset > size ||
		    segment->p_filesz > size - segment->p_offset ||
		    segment->p_offset % PAGE != segment->p_vaddr % PAGE)
			return KU_DETAIL_SEGMENTS;
		file->loads[file->load_count++] =
			(struct load){segment->p_vaddr, segment->p_offset, segment->p_filesz};
	}
	return KU_DETAIL_NONE;
}

static enum ku_detail map_file(struct file *file, int fd)
{
	struct stat status;

	/* The bare call: libc's goes by a path, which is forbidden here. */
	if (syscall(SYS_fstat, fd, &status) || !S_ISREG(status.st_mode))
		return KU_DETAIL_NOT_MAPPED;
	if (status.st_size <= 0)
		return KU_DETAIL_NOT_ELF;
	if ((uint64_t)status.st_size > MAX_FILE_SIZE)
		return KU_DETAIL_TOO_LARGE;
	while (mapped + status.st_size > MAX_MAPPED)
		free_file(oldest(true));

	void *image = mmap(NULL, status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);

	if (image == MAP_FAILED)
		return KU_DETAIL_NOT_MAPPED;
	file->image = image;
	file->size = status.st_size;
	mapped += file->size;
	return read_segments(file);
}

struct file *add_file(uint64_t id, int fd, enum ku_detail reason)
{
	forget_file(id);

	struct file *file = oldest(false);

	free_file(file);
	file->id = id;
	file->used = ++now;
	file->bad = reason;
	if (fd >= 0) {
		file->bad = map_file(file, fd);
		close(fd);
	}
	return file;
}

bool file_bias(const struct file *file, const struct ku_mapping *mapping, uint64_t *bias)
{
	unsigned int found = 0;

	for (unsigned int i = 0; i < file->load_count; i++) {
		const struct load *load = &file->loads[i];
		uint64_t first = load->offset / PAGE * PAGE;

		if (mapping->offset < first || mapping->offset >= load->offset + load->filesz)
			continue;
		*bias = mapping->start - (load->vaddr - load->offset + mapping->offset);
		found++;
	}
	return found == 1;
}

Dwarf_CFI *file_cfi(struct file *file)
{
	if (!file->cfi_tried) {
		file->cfi_tried = true;
		file->elf = elf_memory((char *)file->image, file->size);
		/* .debug_frame is left alone: unlike .eh_frame it may be compressed. */
		if (file->elf)
			file->cfi = dwarf_getcfi_elf(file->elf);
	}
	return file->cfi;
}

static bool before(const struct symbol *a, const struct symbol *b)
{
	if (a->start != b->start)
		return a->start < b->start;
	/* The one that is met first when looking backwards is the smallest, then the best. */
	if (a->size != b->size)
		return a->size > b->size;
	return a->rank > b->rank;
}

static void sift(struct symbol *symbols, size_t root, size_t count)
{
	for (size_t child; (child = 2 * root + 1) < count; root = child) {
		if (child + 1 < count && before(&symbols[child], &symbols[child + 1]))
			child++;
		if (!before(&symbols[root], &symbols[child]))
			return;

		struct symbol swapped = symbols[root];

		symbols[root] = symbols[child];
		symbols[child] = swapped;
	}
}

/* qsort asks the system how much memory there is. */
static void sort(struct symbol *symbols, size_t count)
{
	for (size_t i = count / 2; i-- > 0;)
		sift(symbols, i, count);
	for (size_t end = count; end-- > 1;) {
		struct symbol swapped = symbols[0];

		symbols[0] = symbols[end];
		symbols[end] = swapped;
		sift(symbols, 0, end);
	}
}

static bool section_in_file(const struct file *file, const Elf64_Shdr *section)
{
	return section->sh_offset <= file->size &&
	       section->sh_size <= file->size - section->sh_offset;
}

static void read_symbols(struct file *file)
{
	const Elf64_Ehdr *header = (const Elf64_Ehdr *)file->image;
	const Elf64_Shdr *tables[2] = {0};
	size_t count = 0;

	if (header->e_shentsize != sizeof(Elf64_Shdr) || header->e_shoff % 8 ||
	    header->e_shoff > file->size ||
	    header->e_shnum > (file->size - header->e_shoff) / sizeof(Elf64_Shdr))
		return;

	const Elf64_Shdr *sections = (const Elf64_Shdr *)(file->image + header->e_shoff);

	for (int i = 0; i < header->e_shnum; i++) {
		int table = sections[i].sh_type == SHT_DYNSYM ? 0 : 1;
		const Elf64_Shdr *section = &sections[i];

		if (section->sh_type != SHT_DYNSYM && section->sh_type != SHT_SYMTAB)
			continue;
		if (tables[table] || section->sh_link >= header->e_shnum ||
		    section->sh_offset % 8 || section->sh_entsize != sizeof(Elf64_Sym) ||
		    !section_in_file(file, section) ||
		    !section_in_file(file, &sections[section->sh_link]))
			continue;
		tables[table] = section;
		file->strings[table].start = file->image + sections[section->sh_link].sh_offset;
		file->strings[table].size = sections[section->sh_link].sh_size;
		count += section->sh_size / sizeof(Elf64_Sym);
	}
	if (count == 0 || count > MAX_SYMBOLS)
		return;
	file->symbols = malloc(count * sizeof(*file->symbols));
	if (!file->symbols)
		return;
	for (int table = 0; table < 2; table++) {
		if (!tables[table])
			continue;

		const Elf64_Sym *symbols =
			(const Elf64_Sym *)(file->image + tables[table]->sh_offset);

		for (size_t i = 0; i < tables[table]->sh_size / sizeof(*symbols); i++) {
			const Elf64_Sym *symbol = &symbols[i];
			int binding = ELF64_ST_BIND(symbol->st_info);
			int type = ELF64_ST_TYPE(symbol->st_info);

			if ((type != STT_FUNC && type != STT_GNU_IFUNC) || symbol->st_size == 0 ||
			    symbol->st_shndx == SHN_UNDEF || file->symbol_count == count)
				continue;
			file->symbols[file->symbol_count++] = (struct symbol){
				.start = symbol->st_value,
				.size = symbol->st_size,
				.name = symbol->st_name,
				.table = table,
				.rank = (binding == STB_GLOBAL ? 0
					 : binding == STB_WEAK ? 2
							       : 4) +
					table,
			};
		}
	}
	sort(file->symbols, file->symbol_count);
}

bool find_function(struct file *file, uint64_t address, const char **name, size_t *length,
		   uint64_t *start)
{
	if (!file->symbols_tried) {
		file->symbols_tried = true;
		read_symbols(file);
	}

	/* How many begin at the address or before it. */
	size_t low = 0, high = file->symbol_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (file->symbols[middle].start <= address)
			low = middle + 1;
		else
			high = middle;
	}
	/* Functions may lie in others, but not in many: a part of one, an alias. */
	for (int tries = 0; low > 0 && tries < 64; tries++) {
		const struct symbol *symbol = &file->symbols[--low];

		if (address - symbol->start >= symbol->size)
			continue;
		if (symbol->name >= file->strings[symbol->table].size)
			continue;

		const char *text = (const char *)file->strings[symbol->table].start + symbol->name;
		size_t most = file->strings[symbol->table].size - symbol->name;

		*length = strnlen(text, most < KU_MAX_NAME ? most : KU_MAX_NAME);
		if (*length == 0)
			continue;
		*name = text;
		*start = symbol->start;
		return true;
	}
	return false;
}
