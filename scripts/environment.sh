# Sourced by the other scripts: makes .venv with adaptertune and the extras named in $1.
# A second call installs nothing unless the requirements changed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

extras="$1"
python="${PYTHON:-python3}"
"$python" - <<'P' || { echo "error: Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11" >&2; exit 2; }
import sys
sys.exit(sys.version_info < (3, 11))
P

[ -x .venv/bin/python ] || "$python" -m venv .venv
wanted="$extras $(cat pyproject.toml scripts/constraints.txt | cksum)"
if [ "$(cat .venv/.adaptertune 2>/dev/null || true)" != "$wanted" ]; then
  echo "Installing into .venv …"
  pip=(.venv/bin/python -m pip install --quiet --disable-pip-version-check)
  "${pip[@]}" "$(grep '^torch==' scripts/constraints.txt)"
  "${pip[@]}" -c scripts/constraints.txt --editable ".[$extras]"
  printf '%s' "$wanted" > .venv/.adaptertune
fi
