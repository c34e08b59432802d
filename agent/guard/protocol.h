// SPDX-License-Identifier: Apache-2.0
/*
 * What agent and guard say to each other, a message a packet of a SOCK_SEQPACKET pair. The agent's
 * side is agent/KamOtel.Linux/GuardProtocol.cs: change both.
 */
#ifndef KAMOTEL_GUARD_PROTOCOL_H
#define KAMOTEL_GUARD_PROTOCOL_H

#include <stdint.h>

/* From the agent, one byte. That the agent is gone means KG_STOP. */
enum kg_order {
	KG_START = 's', /* begin the command */
	KG_STOP = 't',	/* end it as an operator does: SIGTERM, time, SIGKILL */
	KG_KILL = 'k',	/* end it at once */
};

enum kg_kind {
	KG_STARTED = 1, /* pid: the command's process, before its first instruction */
	KG_FAILED = 2,	/* value: errno of the exec; the command never ran */
	KG_ENDED = 3,	/* value: the command's wait status */
	KG_KILLED = 4,	/* value: how many processes had to be killed */
	KG_GONE = 5,	/* nothing of what the command started is left; the guard ends */
};

struct kg_report {
	uint32_t kind;
	int32_t pid;
	int32_t value;
};

#endif
