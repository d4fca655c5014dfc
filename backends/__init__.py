"""Convproof's built-in backends: one small module each, importing only the contract and the spec."""
