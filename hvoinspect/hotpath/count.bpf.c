// Counts how often each probe is hit. One program serves all probes; each has its index for a cookie.
BPF_PERCPU_ARRAY(hits, u64, MAX_ADDRESSES);
// filter.bpf.c comes in here.

int count(void *context)
{
	int index = bpf_get_attach_cookie(context);
	u64 *number = hits.lookup(&index);

	if (number && is_wanted())
		(*number)++;
	return 0;
}
