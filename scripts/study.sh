#!/usr/bin/env bash
# The README's study: bash scripts/study.sh path/to/glue [step …]; without steps, all of them in order.
# It takes many hours on two cores. Ctrl-C saves and stops, the same command goes on; what is there is
# not trained again. Afterwards scripts/study/ holds the result files, charts and tables.
glue="$(realpath "$1")"
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" embedded
export OMP_WAIT_POLICY=passive
shift
steps=("$@")
[ ${#steps[@]} -gt 0 ] || steps=(cola mrpc rte stsb wnli held-out precision spans init size lr depth qnli mnli sst2 qqp)

here=(--data-dir "$glue" --output runs/study --executor local --workers 2)
search() { .venv/bin/adaptertune sweep --config study "${here[@]}" "$@"; }
best() {  # the folder of a method's chosen cell
  search --tasks "$2" --json | .venv/bin/python -c 'import json, sys
print(next(choice["cell"] for choice in json.load(sys.stdin)["choices"] if choice["row"] == sys.argv[1]))' "$1"
}
ablate() { .venv/bin/adaptertune ablate "$@" --backbone minilm --tasks cola,mnli --threads 1 "${here[@]}"; }

for step in "${steps[@]}"; do
  echo "== $step"
  case "$step" in
    cola | mrpc | rte | stsb | wnli | qnli | mnli | sst2 | qqp) search --tasks "$step" ;;
    held-out) search --tasks cola,mrpc,rte,stsb,wnli --protocol held-out ;;
    precision) search --tasks mrpc,rte --sizes 64 --precision fp32 ;;
    spans) for task in cola mnli; do
        .venv/bin/adaptertune ablate spans "$(best adapter-64 "$task")" --data-dir "$glue" --output runs/study
      done ;;
    init | size | lr | depth) ablate "$step" ;;
    *) echo "error: no step '$step'" >&2; exit 2 ;;
  esac
done
.venv/bin/python scripts/keep_results.py runs/study scripts/study/runs
.venv/bin/adaptertune report --output scripts/study/runs --to scripts/study
