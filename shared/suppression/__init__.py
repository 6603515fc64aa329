"""The suppression list: addresses and domains that must not get mail, for which mail, and for how long.

Events, people, imports and providers' lists put entries on it; entries of one address stand side by side by tenant,
reason and origin, so that none changes another.

    policy            which event suppresses its recipient (pure)
    evaluator         applies events: evidence at once, soft bounces a moment later
    evidence          writes the entries that follow from single events
    soft_bounces      decides about recipients with several soft bounces; soft_bounce_store reads and writes them
    store, queries    add, lift, expire; check, list, explain
    csv_files, jobs   imports and exports
    provider_sync     compares our list with a provider's, and copies entries between them
"""
