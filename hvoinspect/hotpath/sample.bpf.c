// Counts where the kernel is when a clock ticks: samples by instruction, and all of them under 0.
#include <uapi/linux/ptrace.h>
#include <uapi/linux/bpf_perf_event.h>

BPF_PERCPU_HASH(hits, u64, u64, MAX_ADDRESSES);
// filter.bpf.c comes in here.

static __always_inline void add(u64 address)
{
    u64 one = 1, *number = hits.lookup(&address);

    if (number)
        (*number)++;
    else
        hits.update(&address, &one);
}

int count(struct bpf_perf_event_data *context)
{
    u64 address = PT_REGS_IP(&context->regs);

    if (!is_wanted())
        return 0;
    add(0);
    // User space, which is the lower half, has none of the addresses that are looked for.
    if ((s64)address < 0)
        add(address);
    return 0;
}
