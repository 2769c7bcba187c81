#!/usr/bin/env bash
# The README's study: bash scripts/study.sh path/to/glue [step …]; without steps, all of them in order.
# From nothing it takes two cores some 40 hours. Ctrl-C saves and stops, the same command goes on; what is there is
# not trained again, and that includes the results in scripts/study, which come without their models.
# Afterwards scripts/study/ holds the result files, charts and tables.
glue="$(realpath "$1")"
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" embedded,peft  # of the variants
export OMP_WAIT_POLICY=passive
shift
steps=("$@")
[ ${#steps[@]} -gt 0 ] || steps=(cola mrpc stsb rte wnli mnli spans init size lr depth parts variants qnli qqp sst2 held-out apart precision longer chance)

mkdir -p runs/study
.venv/bin/python - <<'P'  # what is there stays; `cp -n` calls that an error on some systems
import pathlib, shutil
for kept, store in (("runs", "study"), ("seeds", "study-seeds"), ("cuda", "study-cuda")):
    for path in pathlib.Path("scripts/study", kept).rglob("*"):
        target = pathlib.Path("runs", store) / path.relative_to(f"scripts/study/{kept}")
        if path.is_file() and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
P

here=(--data-dir "$glue" --output runs/study --executor local --workers 2)
search() { .venv/bin/adaptertune sweep --config study "${here[@]}" "$@"; }
best() {  # the folder of a method's chosen cell
  search --tasks "$2" --json "${@:3}" | .venv/bin/python -c 'import json, sys
print(next(choice["cell"] for choice in json.load(sys.stdin)["choices"] if choice["row"] == sys.argv[1]))' "$1"
}
ablate() { .venv/bin/adaptertune ablate "$1" --backbone minilm --precision bf16 --seeds 3 --threads 1 "${here[@]}" "${@:2}"; }
plain() {  # the folder of the adapters that `ablate init` compares with
  ablate init --json "$@" | .venv/bin/python -c 'import json, sys
print(next(one["cell"] for one in json.load(sys.stdin)["tasks"][0]["points"] if one["reference"] is None))'
}
spans() {  # of the run whose folder a command prints, whose models must be here
  local cell
  cell="$("$@")"
  [ ! -f "$cell/spans.json" ] || return 0
  if [ ! -f "$cell/seed-0/checkpoint.safetensors" ]; then  # results alone: train these once more
    rm -r "$cell"
    "$@" > /dev/null
  fi
  .venv/bin/adaptertune ablate spans "$cell" --data-dir "$glue" --output runs/study
}
two=(--methods adapter,full)
large=(--epochs 1,3)
rates=(--grid training.learning_rate=3e-5,1e-4,3e-4,1e-3,3e-3)  # all that either was searched over
mnli_init=(--tasks mnli --epochs 1 --grid method.init_std=1e-7,1e-4,1e-3,1e-2,1e-1,1)

for step in "${steps[@]}"; do
  echo "== $step"
  case "$step" in
    cola | mrpc | stsb | rte) search --tasks "$step" ;;
    wnli) search --tasks wnli "${two[@]}" ;;
    mnli | qnli | qqp | sst2) search --tasks "$step" "${two[@]}" "${large[@]}" ;;
    held-out)
      rows=("${two[@]}" --sizes 64 --protocol held-out)
      search --tasks cola,mrpc,rte "${rows[@]}" --epochs 6
      search --tasks stsb "${rows[@]}" --epochs 3
      search --tasks rte,mrpc,stsb,cola --protocol held-out  # all methods, both epochs, by the first seed
      for task in qnli mnli sst2 qqp; do search --tasks "$task" "${rows[@]}" "${large[@]}"; done
      # A rate that the first seed chose fails with the others, or another is as good by it.
      rows=(--methods adapter --sizes 64 --protocol held-out --lrs 1e-3 --seeds-on all)
      search --tasks qnli "${rows[@]}" --epochs 3
      search --tasks cola "${rows[@]}" --epochs 6
      rows=(--tasks stsb --methods adapter --protocol held-out --epochs 6 --seeds-on all)
      search "${rows[@]}" --sizes 8 --lrs 1e-3
      search "${rows[@]}" --sizes 256 --lrs 3e-4
      ;;
    apart)  # the best for each number of epochs, beside the best of both
      search --tasks stsb --epochs 3
      search --tasks mrpc,rte,stsb --epochs 6
      search --tasks cola,wnli "${two[@]}" --epochs 3
      search --tasks sst2,qqp,mnli "${two[@]}" --epochs 1
      search --tasks sst2,qqp,mnli "${two[@]}" --sizes 64 --protocol held-out --epochs 1
      ;;
    precision)  # at the settings that the search chose with bf16, seed by seed
      fp32=(--epochs 6 --seeds-on all --precision fp32)
      search --tasks cola,rte --methods adapter --sizes 64 --lrs 1e-3 "${fp32[@]}"
      search --tasks rte --methods full --lrs 3e-5 "${fp32[@]}"
      ;;
    longer)  # on STS-B at the rate that the search chose for three epochs
      stsb=(--tasks stsb --methods adapter --sizes 64 --lrs 1e-3 --epochs 6 --seeds-on all)
      search "${stsb[@]}"
      search "${stsb[@]}" --set method.pooler=trained
      search --tasks cola --epochs 20
      ;;
    chance)  # two of the cells above once more: other seeds, and on a GPU the same ones
      for task in cola rte; do
        .venv/bin/adaptertune train --task "$task" --backbone minilm --size 64 --lr 1e-3 --epochs 6 --precision bf16 \
          --set 'seeds=[5,6,7,8,9]' --threads 1 --data-dir "$glue" --output runs/study-seeds
      done
      if nvidia-smi > /dev/null 2>&1; then
        .venv/bin/adaptertune sweep --config study --tasks cola,rte --methods adapter --sizes 64 --lrs 1e-3 --epochs 6 \
          --seeds-on all --device cuda --stack off --data-dir "$glue" --output runs/study-cuda
      fi
      ;;
    spans)
      spans best adapter-64 cola --methods adapter
      spans plain "${mnli_init[@]}"
      ;;
    init)  # CoLA with the backbone's own six epochs
      ablate init --tasks cola
      ablate init "${mnli_init[@]}"
      ;;
    size)
      ablate size --tasks cola --grid method.size=1,8,64,512
      ablate size --tasks mnli --epochs 1 --grid method.size=1,64,512
      ;;
    parts)  # the plain adapters' seeds are there
      ablate parts --tasks cola --seeds 5
      ablate parts --tasks mnli --epochs 1 --seeds 5
      ablate parts --tasks stsb --epochs 3 --seeds 5
      frozen=(--methods full --set method.pooler=frozen)
      search --tasks mnli "${frozen[@]}" --lrs 1e-4 --epochs 1
      search --tasks stsb "${frozen[@]}" --epochs 3
      ;;
    lr)
      ablate lr --tasks cola "${rates[@]}"
      ablate lr --tasks mnli --epochs 1 "${rates[@]}"
      ;;
    depth)
      ablate depth --tasks cola
      ablate depth --tasks mnli --epochs 1
      ;;
    variants) ablate variants --tasks cola ;;
    *) echo "error: no step '$step'" >&2; exit 2 ;;
  esac
done
keep() { [ ! -d "$1" ] || .venv/bin/python scripts/keep_results.py "$@" --data-dir "$glue"; }
keep runs/study scripts/study/runs
keep runs/study-seeds scripts/study/seeds --all
keep runs/study-cuda scripts/study/cuda --all
.venv/bin/adaptertune report --output scripts/study/runs --to scripts/study
.venv/bin/python scripts/readme_results.py
