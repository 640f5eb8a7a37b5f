#!/usr/bin/python3 -IS
"""The policy of even.c as a program for Policy=exec: JSON lines in, JSON lines out. See memd-policy(3)."""
import json
import sys


def propose(host, guests):
    available = max(0, host["budget_bytes"] - host["overhead_bytes"])
    for g in guests:
        most = min(g["max_bytes"], g["configured_bytes"])
        target = min(most, max(g["min_bytes"], available // len(guests)))
        yield {"id": g["id"], "target_bytes": target,
               "reason": "an even part of %d MiB for %d guests" % (available >> 20, len(guests))}


hello = json.loads(sys.stdin.readline())
unknown = list(hello["settings"])
print(json.dumps({"error": "no setting %s=" % unknown[0]} if unknown else {"ready": True}), flush=True)
for line in sys.stdin:
    view = json.loads(line)
    print(json.dumps({"proposals": list(propose(view["host"], view["guests"]))}), flush=True)
