"""tuneoff's engine and its peers, each training on the same batches. One contestant runs in one process.

Names: `ours-bf16`, `ours-fp32`; `trainer-autocast` (fp32 weights, bf16 autocast), `trainer-bf16` (bf16 weights and
adapter), `trainer-fp32`, all transformers' Trainer with PEFT, dynamic padding and batches grouped by length;
`sft-bf16` and `sft-fp32`, TRL's SFTTrainer with completion-only loss; `coursework`, fp32 with everything padded to 512.
"""

from __future__ import annotations

import resource
import tempfile
import time
import warnings
from collections.abc import Sequence
from typing import Any

import torch
import workload

from tuneoff.engine.batching import epoch_batches
from tuneoff.engine.gradients import GradientAccumulator
from tuneoff.engine.kernels import use_fast_paths
from tuneoff.engine.optimizer import MasterAdamW
from tuneoff.methods import build
from tuneoff.prompts import Encoded
from tuneoff.spec import TrainSpec

RATES = {"lora": 1e-3, "soft_prompt": 1e-2, "full": 1e-4}
PADDED_TO = 512


def train(name: str, method: str, model: str, steps: int, dropout: float) -> dict[str, Any]:
    """Train `steps` steps; returns seconds and loss of each step and the peak of resident memory in bytes."""
    warnings.filterwarnings("ignore")
    dtype = torch.bfloat16 if name in ("ours-bf16", "trainer-bf16", "sft-bf16") else torch.float32
    base = workload.base_model(model, dtype)
    rows = workload.rows(base, "train", steps * workload.BATCH)
    batches = list(epoch_batches(rows, workload.BATCH, seed=0, epoch=0)[:steps])
    # The longest batch comes first: memory is at its highest early, and the first step is no part of the steady speed.
    batches.sort(key=lambda batch: -max(len(row.prompt) + len(row.target) for row in batch))
    batches = batches[:1] + batches[1:][::2] + batches[2:][::2]
    started = time.perf_counter()
    go = _ours if name.startswith("ours") else _trainer
    seconds, losses = go(name, base, batches, method, dropout)
    return {
        "contestant": name,
        "method": method,
        "seconds": seconds,
        "cold_seconds": time.perf_counter() - started,
        "losses": losses,
        "rows": [len(batch) for batch in batches],
        "tokens": [workload.tokens(batch) for batch in batches],
        "targets": [sum(len(row.target) for row in batch) for batch in batches],
        "useful_flop": [_useful(base, batch, method) for batch in batches],
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def _useful(base: Any, batch: Sequence[Encoded], method: str) -> float:
    """Operations that the step needs: no padding, no recomputation, the head at target positions only."""
    config = base.model.config
    embedding = base.model.get_input_embeddings().weight
    linear = sum(
        module.weight.numel()
        for name, module in base.model.named_modules()
        if isinstance(module, torch.nn.Linear) and "lm_head" not in name and "lora" not in name
    )
    virtual = 20 if method == "soft_prompt" else 0
    lengths = [len(row.prompt) + len(row.target) + virtual for row in batch]
    tokens = sum(lengths)
    passes = 3 if method == "full" else 2  # forward, gradient of inputs, gradient of weights
    attention = sum(2 * length * length * config.hidden_size for length in lengths) * config.num_hidden_layers
    targets = sum(len(row.target) for row in batch)
    low_rank = 0.0
    if method == "lora":
        low_rank = sum(
            6 * 16 * sum(module.base_layer.weight.shape) for module in base.model.modules() if hasattr(module, "lora_A")
        )
    return 2.0 * passes * (linear * tokens + embedding.numel() * targets) + 3 * attention + low_rank * tokens


def _ours(
    name: str, base: Any, batches: Sequence[Sequence[Encoded]], method: str, dropout: float
) -> tuple[list[float], list[float]]:
    assert name in ("ours-bf16", "ours-fp32")
    use_fast_paths(base.model, base.device)
    way = build(method, {"lora_dropout": dropout} if method == "lora" else {})
    adapted = way.adapt(base, [], 0)
    optimizer = MasterAdamW(adapted.state().values(), 0.0)
    gradients = GradientAccumulator(
        adapted, optimizer, pad_id=base.pad_id, device=base.device, tokens=TrainSpec().micro_batch_tokens
    )
    seconds, losses = [], []
    for batch in batches:
        start = time.perf_counter()
        adapted.train_mode(True)
        loss, _ = gradients.add(batch)
        optimizer.step(RATES[method], 1.0)
        seconds.append(time.perf_counter() - start)
        losses.append(loss)
    return seconds, losses


def _trainer(
    name: str, base: Any, batches: Sequence[Sequence[Encoded]], method: str, dropout: float
) -> tuple[list[float], list[float]]:
    import transformers
    from transformers import Trainer, TrainerCallback, TrainingArguments

    transformers.logging.set_verbosity_error()
    model = base.model
    if method != "full":
        model = _peft_model(name, base, method, dropout)
    else:
        model.requires_grad_(True)  # the base comes frozen
    model.train()
    seconds: list[float] = []
    losses: list[float] = []
    pad_to = PADDED_TO - (20 if method == "soft_prompt" else 0) if name == "coursework" else None

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002
            self.start = time.perf_counter()

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002
            seconds.append(time.perf_counter() - self.start)

    def collate(rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        width = pad_to or max(len(row["input_ids"]) for row in rows)
        ids = torch.full((len(rows), width), base.pad_id)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        labels = torch.full((len(rows), width), -100)
        for index, row in enumerate(rows):
            length = min(len(row["input_ids"]), width)
            ids[index, :length] = torch.tensor(row["input_ids"][:length])
            mask[index, :length] = 1
            labels[index, :length] = torch.tensor(row["labels"][:length])
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}

    data = [
        {"input_ids": list(row.prompt + row.target), "labels": [-100] * len(row.prompt) + list(row.target)}
        for batch in batches
        for row in batch
    ]
    with tempfile.TemporaryDirectory() as folder:
        settings: dict[str, Any] = {
            "output_dir": folder,
            "per_device_train_batch_size": workload.BATCH,
            "max_steps": len(batches),
            "learning_rate": RATES[method],
            "lr_scheduler_type": "constant",
            "weight_decay": 0.0,
            "optim": "adamw_torch_fused",
            "bf16": name == "trainer-autocast",
            "use_cpu": True,
            "report_to": "none",
            "save_strategy": "no",
            "logging_strategy": "steps",
            "logging_steps": 1,
            "disable_tqdm": True,
            "remove_unused_columns": False,
            "train_sampling_strategy": "sequential",  # the batches come grouped by length, the same for everyone
        }
        if name.startswith("sft"):
            trainer = _sft(model, data, settings, base, Clock())
        else:
            trainer = Trainer(
                model=model,
                args=TrainingArguments(**settings),
                train_dataset=data,
                data_collator=collate,
                callbacks=[Clock()],
            )
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return seconds, losses


def _peft_model(name: str, base: Any, method: str, dropout: float) -> Any:
    from peft import LoraConfig, PromptTuningConfig, get_peft_model

    torch.manual_seed(0)
    if method == "lora":
        config: Any = LoraConfig(
            task_type="CAUSAL_LM", r=16, lora_alpha=32, lora_dropout=dropout, target_modules="all-linear"
        )
    else:
        config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=20)
    return get_peft_model(base.model, config, autocast_adapter_dtype=name == "trainer-autocast")


def _sft(model: Any, data: list[dict[str, Any]], settings: dict[str, Any], base: Any, clock: Any) -> Any:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    rows = [{"input_ids": row["input_ids"], "labels": row["labels"]} for row in data]
    config = SFTConfig(
        **settings,
        completion_only_loss=True,
        max_length=None,
        packing=False,
        gradient_checkpointing=False,
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    return SFTTrainer(
        model=model,
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=base.tokenizer,
        callbacks=[clock],
    )
