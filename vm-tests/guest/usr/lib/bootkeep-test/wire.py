"""Counts what passes on the wire to the other machines, by kind. It is installed in test images only.

`python3 wire.py ADDRESS` watches the interface that has this address until it is ended; /run/wire.json has the counts.
"""

import json
import os
import socket
import subprocess
import sys

COUNTS = "/run/wire.json"
KINDS = {1: "icmp", 6: "tcp", 17: "udp", 50: "esp"}
IPV4 = 0x0800
EVERYTHING = 0x0003
PORTS = {500: "ike", 4500: "ike", 67: "dhcp", 68: "dhcp"}


def interface(address):
    links = json.loads(subprocess.check_output(["ip", "-json", "address", "show", "to", address]))
    return links[0]["ifname"]


def kind(packet):
    """Of an IPv4 packet. IKE, and DHCP of a machine that has no address yet, are told apart from other UDP."""
    name = KINDS.get(packet[9], "other")
    if name != "udp":
        return name
    start = (packet[0] & 0x0F) * 4
    return PORTS.get(int.from_bytes(packet[start + 2 : start + 4], "big"), name)


def show(counts):
    with open(COUNTS + ".new", "w", encoding="ascii") as file:
        json.dump(counts, file)
    os.rename(COUNTS + ".new", COUNTS)


def main():
    counts = dict.fromkeys(["icmp", "tcp", "udp", "dhcp", "ike", "esp", "other"], 0)
    # No protocol until it is bound: until then it would hear all interfaces.
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0) as wire:
        wire.bind((interface(sys.argv[1]), EVERYTHING))
        show(counts)
        while True:
            packet, (_, protocol, *_) = wire.recvfrom(2048)
            if protocol == IPV4 and len(packet) >= 20:
                counts[kind(packet)] += 1
                show(counts)


main()
