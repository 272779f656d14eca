"""Flags of other programs that people type here: what is accepted without effect, and what to type instead.

The names are those of transformers' example programs, TRL, PEFT's examples and scikit-learn.
"""

from dataclasses import dataclass

STUDY_COMMANDS = ("compare", "train", "check")


@dataclass(frozen=True)
class WithoutEffect:
    """A flag that `compare` and `train` accept with a note, because what it asks for is done anyway or does not exist
    here and changes no result."""

    note: str
    takes_value: bool = True


_PARTS = "every run trains, validates and is scored on the test documents"
_LOG = "each optimiser step is recorded"
_SAVE = "an interrupted run goes on where it was, and the best weights are kept"
_LOADING = "data is read in this process"

WITHOUT_EFFECT = {
    "--do-train": WithoutEffect(_PARTS, takes_value=False),
    "--do-eval": WithoutEffect(_PARTS, takes_value=False),
    "--do-predict": WithoutEffect(_PARTS, takes_value=False),
    "--predict-with-generate": WithoutEffect("texts are always generated and scored", takes_value=False),
    "--overwrite-output-dir": WithoutEffect(
        "finished runs are kept; use another --output to repeat", takes_value=False
    ),
    "--overwrite-cache": WithoutEffect("data is read again whenever a file changes", takes_value=False),
    "--load-best-model-at-end": WithoutEffect("always so, by validation loss", takes_value=False),
    "--greater-is-better": WithoutEffect("the lowest validation loss is the best"),
    "--resume-from-checkpoint": WithoutEffect(_SAVE),
    "--logging-steps": WithoutEffect(_LOG),
    "--logging-strategy": WithoutEffect(_LOG),
    "--logging-dir": WithoutEffect(_LOG),
    "--logging-first-step": WithoutEffect(_LOG, takes_value=False),
    "--log-level": WithoutEffect(_LOG),
    "--disable-tqdm": WithoutEffect("progress is shown as lines; --quiet hides it"),
    "--save-steps": WithoutEffect(_SAVE),
    "--save-strategy": WithoutEffect(_SAVE),
    "--save-total-limit": WithoutEffect(_SAVE),
    "--save-only-model": WithoutEffect(_SAVE),
    "--save-safetensors": WithoutEffect("always so"),
    "--preprocessing-num-workers": WithoutEffect(_LOADING),
    "--dataloader-num-workers": WithoutEffect(_LOADING),
    "--dataloader-pin-memory": WithoutEffect(_LOADING),
    "--remove-unused-columns": WithoutEffect("only the columns that the study uses are read"),
    "--use-fast-tokenizer": WithoutEffect("always so"),
    "--pad-to-max-length": WithoutEffect("batches are padded to their longest text"),
    "--ignore-pad-token-for-loss": WithoutEffect("always so"),
    "--gradient-checkpointing": WithoutEffect("lower --micro-batch-tokens if memory runs out", takes_value=False),
    "--ddp-find-unused-parameters": WithoutEffect("--processes N sums gradients itself"),
    "--ddp-backend": WithoutEffect("--processes N sums gradients itself"),
    "--task-type": WithoutEffect("always a causal language model"),
}

_SAMPLING = (
    "nothing is sampled, so that scores can be repeated: decoding is greedy, or a beam search with --num-beams N"
)
_QUANTIZED = "weights are trained and used in fp32 or bf16 (--precision), never in 4 or 8 bits"
_UPLOAD = "tuneoff uploads nothing; the folder of the weights is in the PEFT or transformers format"
_OPTIMIZER = "all methods are trained with AdamW, with the defaults of torch"
_CUT = "--max-length limits prompt, virtual tokens and target together"
_PRECISION = "--precision takes auto, fp32 or bf16"
_DEVICE = "an accelerator is used if torch finds one; set CUDA_VISIBLE_DEVICES to choose one, or to nothing for none"
_DISTRIBUTED = "a run uses one device, or several processes of one machine with --processes N"
_METHOD = "the name of the method decides: `tuneoff train lora` or `tuneoff compare --methods lora,full`"
_EVALUATION = "validation runs at the end of each epoch, and every N steps with --eval-steps N"

# For `compare` and `train`.
INSTEAD = {
    "--learning-rate": "the best rates of the methods differ by a factor of up to 1000, so one rate for all would "
    "decide which method wins; set it for one method: --set lora.learning_rate=1e-3",
    "--weight-decay": "it belongs to a method: --set lora.weight_decay=0.01",
    "--max-source-length": _CUT,
    "--max-seq-length": _CUT,
    "--max-seq-len": _CUT,
    "--max-input-length": _CUT,
    "--block-size": _CUT,
    "--cutoff-len": _CUT,
    "--gradient-accumulation-steps": "--batch-size is the number of examples per optimiser step, --micro-batch-tokens "
    "limits memory",
    "--eval-strategy": _EVALUATION,
    "--evaluation-strategy": _EVALUATION,
    "--bf16": "--precision bf16",
    "--fp16": _PRECISION,
    "--tf32": _PRECISION,
    "--dtype": _PRECISION,
    "--torch-dtype": _PRECISION,
    "--max-train-samples": "--max-train-documents N counts documents",
    "--max-eval-samples": "--max-validation-documents N counts documents",
    "--max-val-samples": "--max-validation-documents N counts documents",
    "--max-predict-samples": "--max-test-documents N counts documents",
    "--max-test-samples": "--max-test-documents N counts documents",
    "--limit": "--max-test-documents N counts documents",
    "--metric-for-best-model": "the weights with the lowest validation loss are kept",
    "--source-prefix": "--instruction is what the model is asked to do",
    "--prompt": "--instruction is what the model is asked to do",
    "--system-prompt": "--instruction is what the model is asked to do",
    "--group-by-length": "the order of the examples is drawn at random, the same for all methods",
    "--packing": "each example is trained on alone, because its loss counts the target only",
    "--optim": _OPTIMIZER,
    "--optimizer": _OPTIMIZER,
    "--adam-beta1": _OPTIMIZER,
    "--adam-beta2": _OPTIMIZER,
    "--adam-epsilon": _OPTIMIZER,
    "--label-smoothing-factor": "the loss is plain cross-entropy on the target",
    "--neftune-noise-alpha": "the loss is plain cross-entropy on the target",
    "--attn-implementation": "attention is chosen for the model and the machine; `tuneoff doctor` shows the machine",
    "--use-peft": _METHOD,
    "--peft-type": _METHOD,
    "--lora": _METHOD,
    "--use-lora": _METHOD,
    "--qlora": _QUANTIZED,
    "--temperature": _SAMPLING,
    "--top-p": _SAMPLING,
    "--top-k": _SAMPLING,
    "--do-sample": _SAMPLING,
    "--load-in-4bit": _QUANTIZED,
    "--load-in-8bit": _QUANTIZED,
    "--use-4bit": _QUANTIZED,
    "--quantization": _QUANTIZED,
    "--push-to-hub": _UPLOAD,
    "--hub-model-id": _UPLOAD,
    "--hub-token": _UPLOAD,
    "--token": "a token for the hub is read from the environment variable HF_TOKEN, not from the command line",
    "--use-auth-token": "a token for the hub is read from the environment variable HF_TOKEN",
    "--device": _DEVICE,
    "--device-map": _DEVICE,
    "--no-cuda": _DEVICE,
    "--use-cpu": _DEVICE,
    "--gpu": _DEVICE,
    "--gpus": _DEVICE,
    "--deepspeed": _DISTRIBUTED,
    "--fsdp": _DISTRIBUTED,
    "--local-rank": _DISTRIBUTED,
    "--verbose": "progress is shown unless --quiet is given",
    "--log": "progress is shown on stderr, unless --quiet is given",
    "--force": "finished runs are never overwritten; use another --output",
    "--overwrite": "finished runs are never overwritten; use another --output",
    "--resume": "type the same command again: finished runs are kept, and an interrupted one goes on",
    "--name": "the folder is --output; in a study file, `name` is the name of the study",
    "--run-name": "the folder is --output; in a study file, `name` is the name of the study",
    "--method": "--methods lora,full",
}

# Where the answer for `compare` does not fit `train`, and for other commands.
IN_COMMAND = {
    "compare": {"--seed": "--seeds N runs seeds 0 to N-1"},
    "train": {
        "--seed": "--seeds N trains with seeds 0 to N-1 and compares them; seed 0 is the default",
        "--methods": "`tuneoff train` adapts a model in one way, which comes first: `tuneoff train lora`",
        "--method": "the method comes first: `tuneoff train lora`",
        "--weight-decay": "this method does not train",
        "--budget": "only `tuneoff compare` fits a study into a time",
        "--workers": "only `tuneoff compare` has concurrent runs",
    },
    "report": {
        "--output": "the report is written into the folder of the study, as report.html",
        "--metric": "`tuneoff judge DIR --metric rougeL` judges by another metric",
    },
    "judge": {"--output": "the verdict is printed; redirect it: `tuneoff judge DIR > FILE`"},
    "rescore": {"--output": "the verdict is printed; redirect it: `tuneoff rescore DIR > FILE`"},
    "diff": {"--output": "the difference is printed; redirect it: `tuneoff diff A B > FILE`"},
    "methods": {"--output": "the list is printed; redirect it: `tuneoff methods > FILE`"},
    "doctor": {"--output": "the findings are printed; redirect them: `tuneoff doctor > FILE`"},
    "summarize": {
        **dict.fromkeys(
            ("--temperature", "--top-p", "--top-k", "--do-sample", "--num-beams", "--max-new-tokens"),
            "texts are generated as in the study, so that its scores hold; for other settings, run a study with them",
        ),
        **dict.fromkeys(("--device", "--device-map", "--no-cuda", "--use-cpu", "--gpu"), _DEVICE),
        "--batch-size": "it is that of the study; memory stays as it was there",
        "--instruction": "it is that of the study; --field NAME=VALUE fills a {NAME} in it",
        "--input": "the file comes after the folder: `tuneoff summarize DIR FILE`",
        "--file": "the file comes after the folder: `tuneoff summarize DIR FILE`",
        "--data": "the file comes after the folder: `tuneoff summarize DIR FILE`",
        "--train-file": "the file comes after the folder: `tuneoff summarize DIR FILE`",
    },
}


def answer(command: str, name: str) -> str | None:
    """What to type instead of a flag that `command` does not have; None if nothing is known."""
    own = IN_COMMAND.get(command, {}).get(name)
    return own if own is not None or command not in STUDY_COMMANDS else INSTEAD.get(name)
