# Sourced by GDB, which was told LOG before: a line of JSON for each call of CRYPTO_THREAD_set_local in Thread#1, with its
# whole stack.
#
# The breakpoint is in libc, not in libcrypto: the agent's probe has that instruction, and would hide a breakpoint there.
import json

import gdb

KEY, VALUE = ("$x0", "$x1") if "aarch64" in gdb.selected_inferior().architecture().name() else ("$rdi", "$rsi")


def mappings(pid):
    found = []
    with open(f"/proc/{pid}/maps", encoding="utf-8") as maps:
        for line in maps:
            fields = line.split(maxsplit=5)
            start, end = (int(address, 16) for address in fields[0].split("-"))
            if len(fields) > 5 and fields[5].startswith("/"):
                found.append((start, end, int(fields[2], 16), fields[5].strip()))
    return found


def described(frame, mapped):
    pc = frame.pc()
    for start, end, offset, path in mapped:
        if start <= pc < end:
            return {"function": frame.name(), "object": path, "offset": pc - start + offset}
    return {"function": frame.name(), "object": "", "offset": pc}


class SetSpecific(gdb.Breakpoint):
    def stop(self):
        thread = gdb.selected_thread()
        frame = gdb.newest_frame().older()
        if thread.ptid[0] != thread.ptid[1] or frame is None or frame.name() != "CRYPTO_THREAD_set_local":
            return False
        mapped = mappings(thread.ptid[0])
        frames = []
        while frame is not None:
            frames.append(described(frame, mapped))
            last, frame = frame, frame.older()
        tell({
            "key": int(gdb.parse_and_eval(KEY)) & 0xFFFFFFFF,
            "value": int(gdb.parse_and_eval(VALUE)) & 0xFFFFFFFFFFFFFFFF,
            "frames": frames,
            "end": gdb.frame_stop_reason_string(last.unwind_stop_reason()),
        })
        return False


def tell(what):
    with open(LOG, "a", encoding="utf-8") as log:
        log.write(json.dumps(what) + "\n")


def tell_root():
    pid = gdb.selected_inferior().pid
    # {sequence, destructor} of each key. Of OpenSSL's keys only that of the list of what to do at a thread's end has one.
    table = int(gdb.parse_and_eval("(unsigned long) &__pthread_keys"))
    mapped = mappings(pid)
    destructors = {}
    for key in range(32):
        destructor = int(gdb.parse_and_eval(f"*(unsigned long *) {table + 16 * key + 8}"))
        for start, end, _, path in mapped:
            if start <= destructor < end:
                destructors[key] = path
    tell({"root": pid, "destructors": destructors})
