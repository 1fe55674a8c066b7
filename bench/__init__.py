"""Measures hvoinspect beside what people would use instead, and beside what cannot be beaten."""
