"""Webhooks: subscribers of an organ are told what happened, by ids, and can check who told them.

Does: follows the logs, keeps each delivery until it is answered, signs as Standard Webhooks says.
Refuses personal data in a delivery, addresses inside the operator's network, and redirects.
"""
