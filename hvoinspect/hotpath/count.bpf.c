// Counts how often each probed address is reached. One program serves all probes.
#include <uapi/linux/ptrace.h>

BPF_PERCPU_HASH(hits, u64, u64, MAX_ADDRESSES);
// filter.bpf.c comes in here.

int count(struct pt_regs *context)
{
    // Every address is in the map before it is probed; what is not, is not counted.
    u64 address = PT_REGS_IP(context) - AHEAD;
    u64 *number = hits.lookup(&address);

    if (number && is_wanted())
        (*number)++;
    return 0;
}
