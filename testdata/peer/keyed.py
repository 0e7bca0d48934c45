# SPDX-License-Identifier: BSD-3-Clause
"""peer.py that writes the key of each encrypted flow, in hexadecimal, to the file that $KEYS names."""
import os, sys

import oap, peer

derive = oap.Dhe.derive

def kept(self, *args):
    key = derive(self, *args)
    with open(os.environ['KEYS'], 'w') as f:
        f.write(key.hex())
    return key

oap.Dhe.derive = kept
sys.exit(peer.main())
