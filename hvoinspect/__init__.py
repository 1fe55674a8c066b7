"""Shows what a Linux kernel's struct page array looks like under HugeTLB Vmemmap Optimization."""

__version__ = "0.1.0"
