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

if [ ! -e .venv ]; then
  "$python" -m venv .venv
elif ! .venv/bin/python -m pip --version > /dev/null 2>&1; then  # left half made, or made by others
  .venv/bin/python -m ensurepip > /dev/null 2>&1 || {
    [ -f .venv/pyvenv.cfg ] || { echo "error: .venv is no environment; move it away" >&2; exit 2; }
    "$python" -m venv --clear .venv
  }
fi
sum="$(cat pyproject.toml scripts/constraints.txt | cksum)"
there="" installed="" missing=""
read -r there installed 2> /dev/null < .venv/.adaptertune || true
[ "$there" = "${sum// /-}" ] || installed=""
for extra in ${extras//,/ }; do
  case ",$installed," in *",$extra,"*) ;; *) missing=yes ;; esac
done
if [ -n "$missing" ]; then
  echo "Installing into .venv …"
  pip=(.venv/bin/python -m pip install --quiet --disable-pip-version-check)
  torch="$(grep '^torch==' scripts/constraints.txt)"
  # On Linux the package index has torch with gigabytes of CUDA libraries, PyTorch's own one without.
  cpu=(--index-url https://download.pytorch.org/whl/cpu --retries 0 --timeout 20)
  if [ "$(uname -s)" != Linux ] || command -v nvidia-smi > /dev/null || ! "${pip[@]}" "${cpu[@]}" "$torch" 2> /dev/null; then
    "${pip[@]}" "$torch"
  fi
  "${pip[@]}" -c scripts/constraints.txt --editable ".[$extras]"
  all="$(printf '%s\n' ${installed//,/ } ${extras//,/ } | sort -u | paste -sd, -)"
  printf '%s %s\n' "${sum// /-}" "$all" > .venv/.adaptertune
fi
