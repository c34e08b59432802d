// SPDX-License-Identifier: Apache-2.0
/*
 * From frame to frame by the CFI alone. libdwfl would do the walking, too, but it guesses by the
 * frame pointer where no CFI covers the code, and does not tell a stack that ends from one that
 * was cut. Here every step is either told by the CFI and the copied memory, or the last.
 */
#include <dwarf.h>
#include <stdlib.h>
#include <string.h>

#include "unwinder.h"

#define STACK_POINTER  7
#define RETURN_ADDRESS 16
#define MAX_DEPTH      64

enum state {
	LOST, /* not kept by an inner frame */
	KNOWN,
	NOT_COPIED, /* saved where the copy has nothing */
};

struct registers {
	uint64_t value[KU_REGISTERS];
	uint8_t state[KU_REGISTERS];
};

/* What an evaluation came to: KNOWN, LOST and NOT_COPIED, or an expression beyond us. */
#define UNSUPPORTED 3

struct context {
	const struct ku_unwind *request;
	const uint8_t *bytes;
	struct registers registers;
	uint64_t cfa;
};

static bool is_hole(const struct ku_window *window, uint32_t at)
{
	uint32_t chunk = at / KU_CHUNK;

	return window->holes[chunk / 8] & (1u << chunk % 8);
}

static int read_memory(const struct context *context, uint64_t address, uint32_t size,
		       uint64_t *value)
{
	const uint8_t *bytes = context->bytes;

	for (int i = 0; i < KU_WINDOWS; i++) {
		const struct ku_window *window = &context->request->windows[i];
		uint64_t at = address - window->address;

		if (at < window->length && window->length - at >= size && !is_hole(window, at) &&
		    !is_hole(window, at + size - 1)) {
			*value = 0;
			memcpy(value, bytes + at, size);
			return KNOWN;
		}
		bytes += window->length;
	}
	return NOT_COPIED;
}

static int read_register(const struct context *context, uint64_t number, uint64_t *value)
{
	if (number >= KU_REGISTERS)
		return UNSUPPORTED;
	*value = context->registers.value[number];
	return context->registers.state[number];
}

static bool binary(uint8_t atom, uint64_t left, uint64_t right, uint64_t *result)
{
	int64_t signed_left = left, signed_right = right;

	switch (atom) {
	case DW_OP_plus:
		*result = left + right;
		return true;
	case DW_OP_minus:
		*result = left - right;
		return true;
	case DW_OP_mul:
		*result = left * right;
		return true;
	case DW_OP_and:
		*result = left & right;
		return true;
	case DW_OP_or:
		*result = left | right;
		return true;
	case DW_OP_xor:
		*result = left ^ right;
		return true;
	case DW_OP_shl:
		*result = right < 64 ? left << right : 0;
		return true;
	case DW_OP_shr:
		*result = right < 64 ? left >> right : 0;
		return true;
	case DW_OP_shra:
		*result = signed_left >> (right < 64 ? right : 63);
		return true;
	case DW_OP_eq:
		*result = left == right;
		return true;
	case DW_OP_ne:
		*result = left != right;
		return true;
	case DW_OP_ge:
		*result = signed_left >= signed_right;
		return true;
	case DW_OP_gt:
		*result = signed_left > signed_right;
		return true;
	case DW_OP_le:
		*result = signed_left <= signed_right;
		return true;
	case DW_OP_lt:
		*result = signed_left < signed_right;
		return true;
	default:
		return false;
	}
}

/*
 * Straight-line expressions only: no compiler writes branches into CFI. *location tells whether the
 * result is the address of the value or the value.
 */
static int evaluate(const struct context *context, const Dwarf_Op *ops, size_t count,
		    uint64_t *result, bool *location)
{
	uint64_t stack[MAX_DEPTH];
	int depth = 0;

	*location = true;
	for (size_t i = 0; i < count; i++) {
		const Dwarf_Op *op = &ops[i];
		uint64_t value = 0;
		int state = KNOWN;
		int takes = 0;

		if (!*location)
			return UNSUPPORTED;
		switch (op->atom) {
		case DW_OP_lit0 ... DW_OP_lit31:
			value = op->atom - DW_OP_lit0;
			break;
		case DW_OP_const1u:
		case DW_OP_const2u:
		case DW_OP_const4u:
		case DW_OP_const8u:
		case DW_OP_constu:
		case DW_OP_const1s:
		case DW_OP_const2s:
		case DW_OP_const4s:
		case DW_OP_const8s:
		case DW_OP_consts:
			value = op->number;
			break;
		case DW_OP_breg0 ... DW_OP_breg31:
			state = read_register(context, op->atom - DW_OP_breg0, &value);
			value += op->number;
			break;
		case DW_OP_bregx:
			state = read_register(context, op->number, &value);
			value += op->number2;
			break;
		case DW_OP_reg0 ... DW_OP_reg31:
			state = read_register(context, op->atom - DW_OP_reg0, &value);
			*location = false;
			break;
		case DW_OP_regx:
			state = read_register(context, op->number, &value);
			*location = false;
			break;
		case DW_OP_call_frame_cfa:
			value = context->cfa;
			break;
		case DW_OP_stack_value:
			if (depth == 0)
				return UNSUPPORTED;
			*location = false;
			continue;
		case DW_OP_nop:
			continue;
		case DW_OP_dup:
			if (depth == 0)
				return UNSUPPORTED;
			value = stack[depth - 1];
			break;
		case DW_OP_drop:
			if (depth == 0)
				return UNSUPPORTED;
			depth--;
			continue;
		case DW_OP_deref:
		case DW_OP_deref_size:
			if (depth == 0)
				return UNSUPPORTED;
			takes = 1;
			value = op->atom == DW_OP_deref ? 8 : op->number;
			if (value == 0 || value > 8)
				return UNSUPPORTED;
			state = read_memory(context, stack[depth - 1], value, &value);
			break;
		case DW_OP_plus_uconst:
			if (depth == 0)
				return UNSUPPORTED;
			takes = 1;
			value = stack[depth - 1] + op->number;
			break;
		default:
			if (depth < 2 ||
			    !binary(op->atom, stack[depth - 2], stack[depth - 1], &value))
				return UNSUPPORTED;
			takes = 2;
			break;
		}
		if (state != KNOWN)
			return state;
		depth -= takes;
		if (depth == MAX_DEPTH)
			return UNSUPPORTED;
		stack[depth++] = value;
	}
	if (depth == 0)
		return UNSUPPORTED;
	*result = stack[depth - 1];
	return KNOWN;
}

#define RBX 3

/* rax, rdx, rcx, rsi, rdi, r8-r11: a called function may overwrite them. */
#define CLOBBERED 0x0f37u

static bool is_undefined(const Dwarf_Op *ops, const Dwarf_Op *own, size_t count)
{
	return count == 0 && ops == own;
}

/* The caller's value of a register. */
static int restore(const struct context *context, Dwarf_Frame *frame, int number, uint64_t *value)
{
	Dwarf_Op own[3];
	Dwarf_Op *ops;
	size_t count;
	bool location;

	if (dwarf_frame_register(frame, number, own, &ops, &count))
		return UNSUPPORTED;
	if (is_undefined(ops, own, count))
		return LOST;
	if (count == 0 && ops == NULL && (CLOBBERED & 1u << number))
		return LOST;
	if (count == 0)
		return ops == NULL ? read_register(context, number, value) : UNSUPPORTED;

	int state = evaluate(context, ops, count, value, &location);

	if (state == KNOWN && location)
		state = read_memory(context, *value, 8, value);
	return state;
}

static bool gives_up_kept_registers(Dwarf_Frame *frame)
{
	static const uint8_t kept[] = {6, 12, 13, 14, 15};
	Dwarf_Op own[3];
	Dwarf_Op *ops;
	size_t count;

	for (size_t i = 0; i < sizeof(kept); i++)
		if (dwarf_frame_register(frame, kept[i], own, &ops, &count) ||
		    is_undefined(ops, own, count))
			return true;
	return false;
}

static bool stop(struct answer *answer, enum ku_end end, enum ku_detail detail)
{
	answer->end = end;
	answer->detail = detail;
	return false;
}

/* Why there is no way on without a value. */
static bool stop_without(struct answer *answer, int state)
{
	switch (state) {
	case NOT_COPIED:
		return stop(answer, KU_TRUNCATED, KU_DETAIL_NONE);
	case LOST:
		return stop(answer, KU_NO_UNWIND_INFO, KU_DETAIL_LOST_REGISTER);
	default:
		return stop(answer, KU_BAD_FILE, KU_DETAIL_EXPRESSION);
	}
}

/* Makes the registers the caller's. False at the end, with its reason. */
static bool step(struct context *context, Dwarf_Frame *frame, bool *signal, struct answer *answer)
{
	struct registers caller = {0};
	Dwarf_Op own[3];
	Dwarf_Op *ops;
	size_t count;
	bool location;
	int state;

	if (dwarf_frame_info(frame, NULL, NULL, signal) != RETURN_ADDRESS)
		return stop(answer, KU_BAD_FILE, KU_DETAIL_RETURN_COLUMN);
	if (dwarf_frame_register(frame, RETURN_ADDRESS, own, &ops, &count))
		return stop(answer, KU_BAD_FILE, KU_DETAIL_EXPRESSION);
	if (is_undefined(ops, own, count))
		return stop(answer, KU_COMPLETE, KU_DETAIL_NONE);
	if (count == 0)
		return stop(answer, KU_NO_UNWIND_INFO, KU_DETAIL_RETURN_NOT_TOLD);

	if (dwarf_frame_cfa(frame, &ops, &count))
		return stop(answer, KU_BAD_FILE, KU_DETAIL_EXPRESSION);
	state = evaluate(context, ops, count, &context->cfa, &location);
	if (state != KNOWN)
		return stop_without(answer, state);
	/* A call pushes; only a signal may switch to another stack. */
	if (!*signal && (context->registers.state[STACK_POINTER] != KNOWN ||
			 context->cfa <= context->registers.value[STACK_POINTER]))
		return stop(answer, KU_BAD_FILE, KU_DETAIL_BACKWARDS);

	for (int number = 0; number < KU_REGISTERS; number++) {
		state = restore(context, frame, number, &caller.value[number]);
		if (state == UNSUPPORTED) {
			if (number == RETURN_ADDRESS || number == STACK_POINTER)
				return stop_without(answer, state);
			state = LOST;
		}
		caller.state[number] = state;
	}
	/*
	 * libdw's table of what calls keep says register 0 where it means rbx: one that the CFI
	 * does not mention comes as undefined. Code that really gives rbx up gives up the others
	 * too, and these come right.
	 */
	if (dwarf_frame_register(frame, RBX, own, &ops, &count) == 0 &&
	    is_undefined(ops, own, count) && !gives_up_kept_registers(frame)) {
		caller.value[RBX] = context->registers.value[RBX];
		caller.state[RBX] = context->registers.state[RBX];
	}
	if (caller.state[RETURN_ADDRESS] != KNOWN)
		return stop_without(answer, caller.state[RETURN_ADDRESS]);
	context->registers = caller;
	return true;
}

static const struct ku_mapping *find_mapping(const struct space *space, uint64_t address)
{
	uint32_t low = 0, high = space->count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (space->mappings[middle].end <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low < space->count && space->mappings[low].start <= address ? &space->mappings[low]
									   : NULL;
}

static struct ku_frame *add_frame(struct answer *answer, uint64_t address, uint32_t mapping)
{
	struct ku_frame *frame = &answer->frames[answer->count++];

	*frame = (struct ku_frame){.address = address, .mapping = mapping};
	return frame;
}

static void name_frame(struct answer *answer, struct ku_frame *frame, struct file *file,
		       uint64_t lookup)
{
	const char *name;
	size_t length;
	uint64_t start;

	if (!find_function(file, lookup, &name, &length, &start))
		return;
	memcpy(answer->names + answer->names_length, name, length);
	answer->names_length += length;
	frame->name_length = length;
	frame->offset = frame->file_address - start;
}

void unwind(const struct ku_unwind *request, const uint8_t *bytes, const struct space *space,
	    struct answer *answer)
{
	struct context context = {.request = request, .bytes = bytes};
	/* A return address stands behind its call, which may be the last of its function. */
	bool exact = true;

	answer->count = 0;
	answer->names_length = 0;
	memcpy(context.registers.value, request->registers, sizeof(context.registers.value));
	memset(context.registers.state, KNOWN, sizeof(context.registers.state));

	for (;;) {
		uint64_t pc = context.registers.value[RETURN_ADDRESS];
		uint64_t lookup = exact ? pc : pc - 1;
		const struct ku_mapping *mapping = find_mapping(space, lookup);
		struct ku_frame *frame;
		Dwarf_Frame *rules;
		uint64_t bias;
		bool signal;

		if (answer->count == KU_MAX_FRAMES) {
			stop(answer, KU_TOO_DEEP, KU_DETAIL_NONE);
			return;
		}
		if (!mapping) {
			add_frame(answer, pc, KU_NO_MAPPING);
			stop(answer, KU_UNKNOWN_CODE, KU_DETAIL_NONE);
			return;
		}
		frame = add_frame(answer, pc, mapping - space->mappings);

		struct file *file = need_file(mapping->file);

		if (file->bad) {
			stop(answer, KU_BAD_FILE, file->bad);
			return;
		}
		if (!file_bias(file, mapping, &bias)) {
			stop(answer, KU_BAD_FILE, KU_DETAIL_OTHER_MAPPING);
			return;
		}
		frame->file_address = pc - bias;
		name_frame(answer, frame, file, lookup - bias);

		Dwarf_CFI *cfi = file_cfi(file);

		if (!cfi) {
			stop(answer, KU_NO_UNWIND_INFO, KU_DETAIL_NO_CFI);
			return;
		}
		if (dwarf_cfi_addrframe(cfi, lookup - bias, &rules)) {
			stop(answer, KU_NO_UNWIND_INFO, KU_DETAIL_NOT_COVERED);
			return;
		}

		bool more = step(&context, rules, &signal, answer);

		free(rules);
		if (!more)
			return;
		exact = signal;
	}
}
