"""The pure middle: from page tables and struct pages to an accounted, checked result."""
