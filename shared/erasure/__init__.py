"""Erasing one address from everything that Tidings keeps.

Stored requests, captures of delivery attempts and files of jobs that contain the address are deleted; nothing
rewrites them. States, events and list entries stay and name a pseudonym instead: the keyed hash of the address.
`service.STEPS` lists what happens, in order; a job runs it a piece at a time (`workers.jobs.erase`).
"""
