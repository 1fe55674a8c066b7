"""What a page costs the kernel in instructions: an experiment over kernels, with HVO off and on."""
