"""One training with AdapterHub's trainer or with transformers' own, as bench_peers.py asks for it.

Runs inside the peers' environment (``peer_requirements.txt``) and imports nothing of this project:

    python peer_worker.py JOB.json RESULT.json

Everything that the job leaves open is the peer's own default. Rows are tokenised beforehand with
``datasets`` and batches come from the Trainer's data loader, as in AdapterHub's run_glue.py example.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class Job:
    """What bench_peers.py writes into the job file; rows are lines of JSON."""

    model: str
    train: str
    validation: str
    num_labels: int
    metric: Literal["accuracy", "f1", "matthews"]
    trains: Literal["adapters", "all"]
    padding: Literal["max_length", "dynamic"]
    bf16: bool
    size: int
    learning_rate: float
    epochs: int
    batch_size: int
    max_length: int
    seeds: list[int]
    scratch: str
    device: Literal["cpu", "cuda"]


def main() -> None:
    """Train and evaluate once for each seed; write times and scores."""
    job = Job(**json.loads(Path(sys.argv[1]).read_text("utf-8")))
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(job.model, local_files_only=True)
    train, validation = (encoded(path, tokenizer, job) for path in (job.train, job.validation))
    runs = [run(job, seed, tokenizer, train, validation) for seed in job.seeds]
    result = {
        "train_seconds": sum(seconds for seconds, _, _ in runs),
        "score": sum(score for _, score, _ in runs) / len(runs),
        "trained_parameters": runs[0][2],
        "versions": {
            name: importlib.metadata.version(name) for name in ("torch", "transformers", "adapters")
        },
    }
    Path(sys.argv[2]).write_text(json.dumps(result), "utf-8")


def encoded(path: str, tokenizer: Any, job: Job) -> Any:
    """A ``datasets.Dataset`` of token numbers and labels, padded here or left to the collator."""
    from datasets import Dataset

    with Path(path).open(encoding="utf-8") as lines:
        rows = Dataset.from_list([json.loads(line) for line in lines])
    columns = [name for name in ("first", "second") if name in rows.column_names]

    def tokenise(batch: dict[str, Any]) -> Any:
        return tokenizer(
            *(batch[name] for name in columns),
            padding="max_length" if job.padding == "max_length" else False,
            truncation=True,
            max_length=job.max_length,
        )

    return rows.map(tokenise, batched=True, remove_columns=columns)


def run(
    job: Job, seed: int, tokenizer: Any, train: Any, validation: Any
) -> tuple[float, float, int]:
    """One training: seconds of the training loop, score on validation, parameters that trained."""
    import transformers

    transformers.set_seed(seed)
    model = adapter_model(job) if job.trains == "adapters" else full_model(job)
    arguments = transformers.TrainingArguments(
        output_dir=job.scratch,
        num_train_epochs=job.epochs,
        per_device_train_batch_size=job.batch_size,
        learning_rate=job.learning_rate,
        bf16=job.bf16,
        seed=seed,
        use_cpu=job.device == "cpu",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    collator = (
        transformers.default_data_collator
        if job.padding == "max_length"
        else transformers.DataCollatorWithPadding(tokenizer)
    )
    if job.trains == "adapters":
        from adapters import AdapterTrainer as Trainer
    else:
        from transformers import Trainer
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=train,
        data_collator=collator,
        processing_class=tokenizer,
    )
    trained = sum(each.numel() for each in model.parameters() if each.requires_grad)
    seconds = float(trainer.train().metrics["train_runtime"])
    predicted = trainer.predict(validation)
    logits = predicted.predictions
    if isinstance(logits, tuple):
        logits = logits[0]
    return seconds, score(job.metric, predicted.label_ids, logits.argmax(axis=-1)), trained


def adapter_model(job: Job) -> Any:
    """BERT with AdapterHub's Houlsby adapters and its classification head; these alone train."""
    from adapters import AutoAdapterModel, DoubleSeqBnConfig

    model = AutoAdapterModel.from_pretrained(job.model, local_files_only=True)
    model.add_classification_head("task", num_labels=job.num_labels)
    factor = model.config.hidden_size / job.size
    model.add_adapter("task", config=DoubleSeqBnConfig(reduction_factor=factor))
    model.train_adapter("task")  # freezes the rest and makes the adapter active
    return model


def full_model(job: Job) -> Any:
    """BERT with transformers' own classification head; everything trains."""
    from transformers import AutoModelForSequenceClassification

    return AutoModelForSequenceClassification.from_pretrained(
        job.model, num_labels=job.num_labels, local_files_only=True
    )


def score(metric: str, true: Any, predicted: Any) -> float:
    """A GLUE metric as a fraction."""
    from sklearn import metrics

    if metric == "accuracy":
        return float(metrics.accuracy_score(true, predicted))
    if metric == "f1":
        return float(metrics.f1_score(true, predicted))
    return float(metrics.matthews_corrcoef(true, predicted))


if __name__ == "__main__":
    main()
