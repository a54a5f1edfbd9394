"""Makes the world match the store: looks, decides, acts."""
