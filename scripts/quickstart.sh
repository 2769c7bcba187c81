#!/usr/bin/env bash
# From nothing to a result, without any download of models or data: installs into .venv, trains adapters
# of size 64 on the embedded sample with five seeds, and shows what came of it.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" embedded
.venv/bin/adaptertune train --task "${1:-stsb}" --size 64 --offline
