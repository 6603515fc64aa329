"""The rules that an operator sets: which events suppress a recipient, and which conditions raise an alert.

`document` loads and dumps the rules file and the API's alert rules, by the schemas of `schemas`. `reloader` keeps the
rules of a running process up to date. `store` records which file is in force. `model` has what is counted for them.
"""
