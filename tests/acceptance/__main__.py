"""Let chance loose on a site for as long as one likes, and print the figures: ``python -m tests.acceptance``."""

import argparse
import os
import random
import sys

import django

# A module of that name is not imported again by the processes that this one starts.
parser = argparse.ArgumentParser(prog="python -m tests.acceptance", description=__doc__)
parser.add_argument("--seconds", type=float, default=60.0, help="how long faults go on (default: %(default)s)")
parser.add_argument("--seed", type=int, help="what all chance comes from (default: another each time)")
parser.add_argument("--processes", type=int, default=3, help="how many execute runs (default: %(default)s)")
parser.add_argument("--no-outages", action="store_true", help="use the database server that is there, unharmed")


def main() -> int:
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    django.setup()
    from tests.acceptance import chaos

    vendor = os.environ.get("DATABASE_VENDOR", "sqlite")
    seed = random.randrange(1_000_000) if options.seed is None else options.seed
    print(f"{options.seconds:.0f} s on {vendor} with {options.processes} processes, seed {seed}", flush=True)
    figures = chaos.run(
        vendor,
        seed=seed,
        seconds=options.seconds,
        processes=options.processes,
        with_outages=not options.no_outages,
    )
    print(figures)
    return 0 if figures.are_good else 1


sys.exit(main())
