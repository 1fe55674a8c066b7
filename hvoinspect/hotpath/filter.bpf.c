// Which tasks are counted: all, those of a process, or those below a cgroup.
#ifdef ONLY_PROCESS
BPF_ARRAY(wanted, u32, 1);
#endif
#ifdef ONLY_CGROUP
BPF_CGROUP_ARRAY(cgroup, 1);
#endif

static __always_inline int is_wanted(void)
{
#ifdef ONLY_PROCESS
    int first = 0;
    u32 *process = wanted.lookup(&first);

    if (!process || *process != bpf_get_current_pid_tgid() >> 32)
        return 0;
#endif
#ifdef ONLY_CGROUP
    if (cgroup.check_current_task(0) <= 0)
        return 0;
#endif
    return 1;
}
