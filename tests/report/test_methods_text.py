"""The paragraph on methods: each figure is one of the records, and nothing is claimed that a record does not hold."""

from collections.abc import Callable
from pathlib import Path

from support.report_study import HOSTILE, edit_records, edit_spec, load, read_summary, write_new_summary
from tuneoff.report.methods_text import MethodsText, methods_text
from tuneoff.results.run_record import Accelerator, Machine, Provenance, RunDetails
from tuneoff.results.study_state import DataFile, SearchCell, SearchFile, TrialResult
from tuneoff.results.summary import Confound, Summary


def paragraph(folder: Path, **update: object) -> MethodsText:
    summary, study = read_summary(folder).model_copy(update=update), load(folder)
    assert study.spec is not None
    return methods_text(summary, study, study.spec)


def test_what_was_compared_on_what_and_how(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=12, seeds=2)
    machine = Machine(cpu="A CPU", usable_cores=2, memory_bytes=16_000_000_000)
    edit_records(
        study,
        lambda record: {
            "provenance": Provenance(versions={"python": "3.11.2", "torch": "2.13.0"}, machine=machine),
            "details": RunDetails(dtype="bfloat16", template="chat", train_cut_share=0.013),
        },
    )
    text = paragraph(study).as_text()
    for words in (
        "We compared 4 ways of adapting HuggingFaceTB/SmolLM2-135M-Instruct (135 M parameters) with tuneoff 0.1.0",
        "(The tuneoff authors, 2026): zero-shot (Radford et al., 2019), soft prompt (Lester et al., 2021), LoRA (Hu et "
        "al., 2022) and full fine-tuning (Howard and Ruder, 2018).",
        "one summary for each of three aspects) have 300 training, 150 validation and 12 test examples.",
        "the instruction “Summarize the following text in one sentence.”, the document and the cue “Summary:” in the "
        "chat template; prompt, virtual tokens and target had at most 512 tokens (1.3 % of the training documents were "
        "truncated).",
        "Every trained method took 96 optimiser steps of 8 examples with AdamW (Loshchilov and Hutter, 2019) (cosine "
        "schedule, 6 % warm-up, gradients clipped at a norm of 1)",
        "Hyper-parameters had the defaults of tuneoff.",
        "Trainings were repeated with 2 seeds (0 to 1).",
        "by greedy decoding with at most 64 new tokens.",
        "scored by ROUGE-1 (Lin, 2004) (rouge-score-rs 0.2.1, stemmer on",
        "Differences between methods were not tested.",
        "on A CPU (2 cores), 16.0 GB of memory in bfloat16 with Python 3.11.2 and PyTorch 2.13.0.",
    ):
        assert words in text


def test_what_differs_between_runs_is_listed(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=4, methods=("lora", "full"))
    edit_records(
        study,
        lambda record: {
            "provenance": Provenance(machine=Machine(accelerators=(Accelerator(name=f"GPU of {record.name}"),))),
            "curve": record.curve.model_copy(
                update={"train": record.curve.train[: 40 if record.name.startswith("lora") else 50]}
            ),
        },
    )
    confound = Confound(aspect="a", model="m", changes_scores=True, description="runs differ in arithmetic")
    text = paragraph(study, confounds=(confound,)).as_text()
    assert "on GPU of full-s0 and on GPU of lora-s0" in text
    assert "took 40 (LoRA) and 50 (Full fine-tuning) optimiser steps" in text
    assert text.endswith("Besides the methods, runs differ in arithmetic.")


def test_the_search_and_its_choices(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=4, methods=("zero_shot", "lora"))
    edit_spec(study, trials=3, hyperparameters={"lora": {"r": 8}}, fractions=[0.1, 1.0])
    trials = tuple(TrialResult(value=value, validation_loss=2.0) for value in (1e-3, 2e-3))
    cell = SearchCell(model="starter", method="lora", hyperparameter="learning_rate", trials=trials, chosen=1e-3)
    text = paragraph(study, search=SearchFile(cells=(cell,))).as_text()
    assert "For each method, 3 trials and a refinement trial chose one hyper-parameter by validation loss" in text
    assert "which gave 0.001 as learning rate of LoRA; fixed were LoRA r 8; the others had the defaults" in text
    assert "on nested 10 % and 100 % of the training data" in text


def test_the_choices_of_several_models_name_the_model(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=4, models=("starter", "other/model"), methods=("zero_shot", "lora"))
    edit_spec(study, trials=3)
    cells = tuple(
        SearchCell(model=model, method="lora", hyperparameter="learning_rate", chosen=chosen)
        for model, chosen in (("starter", 1e-3), ("other/model", 2e-3))
    )
    text = paragraph(study, search=SearchFile(cells=cells)).as_text()
    assert (
        "which gave 0.001 as learning rate of LoRA on HuggingFaceTB/SmolLM2-135M-Instruct and 0.002 as learning rate "
        "of LoRA on other/model; the others had"
    ) in text


def test_statistics_are_described_where_differences_were_tested(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=36, seeds=3, methods=("zero_shot", "lora", "full"))
    summary: Summary = write_new_summary(study)
    assert summary.verdicts[0].pairs
    text = paragraph(study, data=DataFile(description="d: train 1", counts={"train": 1200, "test": 36}))
    assert "The data (d) have 1,200 training and 36 test examples" in text.as_text()
    assert "compared on the same 36 test examples" in text.as_text()
    assert "cover test documents and seeds and hold for all pairs at once (Hothorn et al., 2008)" in text.as_text()
    assert "Differences of up to 0.5 points were taken as irrelevant." in text.as_text()
    assert "12 groups" in text.as_text()
    assert [entry.key for entry in text.entries][:2] == ["tuneoff", "radford2019language"]
    latex = text.as_latex()
    assert r"~\cite{hothorn2008simultaneous}" in latex
    assert r"95 \%" in latex


def test_strangers_words_are_text_in_latex(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=2, methods=("lora",), hostile=HOSTILE, instruction=r"\write18{rm} {{x}} \& 100%")
    latex = paragraph(study).as_latex()
    assert r"\write" not in latex
    assert r"\textbackslash{}write18\{rm\}" in latex
    assert "\x07" not in latex


def test_a_cross_validation_is_described(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=4, methods=("zero_shot", "lora"))
    edit_spec(study, trials=1, data={"train_file": "x", "folds": 3})
    cells = [
        SearchCell(model="starter", method="lora", fold=fold, hyperparameter="learning_rate", chosen=1e-3)
        for fold in (1, 2, 3)
    ]
    text = paragraph(study, search=SearchFile(cells=tuple(cells))).as_text()
    assert "In a cross-validation with 3 folds, which keep the texts of one document together, each document" in text
    assert "For each method and in each fold, 1 trial and a refinement trial chose one hyper-parameter by" in text
    assert "which gave" not in text
