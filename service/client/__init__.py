"""The device's side: what a phone, a laptop or a patrol box does with its captures.

Does: keeps every statement and receipt in a journal before anything is believed, announces,
sends, verifies what the server answers, and fetches packages. Refuses to say "received" before
a receipt has been verified under known keys, and knows nothing of the server but its routes.
"""
