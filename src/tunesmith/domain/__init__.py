"""The nouns and the law of fine-tuning: values, the status table, ids and the error tree.

Nothing here knows HTTP, SQL, Ray or torch; every other room may import this one.
"""
