"""Writers of results, and readers of what they write; no torch."""
