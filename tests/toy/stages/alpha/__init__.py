"""Toy stage: arithmetic on images."""
