"""Made-up machines of any size, as sparse ELF dumps: page tables, vmemmap, symbols, BTF and all.

`Makeup` says what a machine's memory is used for, and what a scan of it must come to;
`dump.write_dump` writes it. A terabyte takes 5 GB of disk and half a minute.
"""
