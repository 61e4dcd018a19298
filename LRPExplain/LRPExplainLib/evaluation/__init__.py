"""How far to trust a relevance map."""
