"""Candidates for savers: surveyed from their cost, evaluated from cheap to expensive, the best selected."""
