# SPDX-License-Identifier: BSD-3-Clause
"""Writes all frames of a network device to a file, until it is ended: sniff.py DEVICE FILE."""
import socket, sys

with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as s, open(sys.argv[2], 'wb', 0) as f:
    s.bind((sys.argv[1], 0))
    print('sniffing', flush=True)
    while True:
        f.write(s.recv(65536))
