"""Base models: brought to a folder of this node, whoever uses them there."""
