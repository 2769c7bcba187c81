#!/usr/bin/env bash
# From nothing to a result, without any download of models or data: installs into .venv, trains adapters
# of size 64 and, beside them, the whole model on the embedded sample with three seeds each, and ends with
# the address of a page that shows what adapters keep and what they save.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" embedded
.venv/bin/adaptertune compare --full --config quickstart --tasks "${1:-sst2}"
