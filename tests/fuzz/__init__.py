"""Fuzzing of the parsers: generators of input, and the rules that hold for every input."""
