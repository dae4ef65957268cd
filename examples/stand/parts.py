"""`python -m stand.parts`: fetch or build what the stand is made of, before anything is timed.

The control plane takes minutes to build, once; a test that did it would be a test with a long time limit. Refused:
starting anything.
"""

from __future__ import annotations

import os

from stand import binaries, kindcluster
from stand.catalogue import nouns_file
from stand.cluster import KUBECONFIG_VARIABLE


def main() -> None:
    """Have the catalogue and, where no other cluster is named or found, the control plane ready."""
    nouns_file()
    if not os.environ.get(KUBECONFIG_VARIABLE) and kindcluster.local_node_image() is None:
        binaries.find_or_build()


if __name__ == "__main__":
    main()
