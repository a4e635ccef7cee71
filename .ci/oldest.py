"""Prints pip's constraints for the oldest packages that setup.cfg allows."""

import configparser
import pathlib
import re

setup = configparser.ConfigParser()
setup.read(pathlib.Path(__file__).parents[1] / "setup.cfg")
extras = setup["options.extras_require"].values()
for line in "\n".join([setup["options"]["install_requires"], *extras]).splitlines():
    if found := re.match(r"([\w-]+)>=([\w.]+)", line):
        print(f"{found[1]}=={found[2]}")
