#!/usr/bin/env python3
"""Train or score a model by its config: ``python tools/train_net.py --config-file configs/nuclei_R_101_FPN.yaml``."""

import sys

from maskseg.cli.main import main

if __name__ == "__main__":
    sys.argv.insert(1, "train")
    main()
