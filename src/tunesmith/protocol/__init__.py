"""The wire shapes of both dialects, field for field, and their translation to domain values."""
