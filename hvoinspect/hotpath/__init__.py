"""The hot path: where compound_head() and its kin were inlined, and how often they are run."""
