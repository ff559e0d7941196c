"""The science: one folder per stage; the folders do not know of one another."""
