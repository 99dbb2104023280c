"""Who is calling: keys, tokens of identity providers, certificates."""
