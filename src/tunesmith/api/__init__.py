"""HTTP in, one store call, wire out."""
