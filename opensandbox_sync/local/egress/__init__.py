"""What the egress sidecar answers on a sandbox's port 18080: its policy and its credential vault.

Nothing here stands between a command and the network: a policy is kept and reported, with the enforcement
mode `none`, and no credential is ever put into a request. Only a sandbox that bubblewrap has put into an empty
network keeps a policy that permits nothing; its enforcement mode is `no-network`.
"""
