"""The folder of a study that stopped when it was settled: two methods lost at the first look, two went on."""

from pathlib import Path

from support.known_scores import scores_of
from support.verdict_study import add_run, write_spec
from tuneoff.results.run_record import Document
from tuneoff.results.study_dir import StudyDir

DOCUMENTS = 40
MEANS = {"zero_shot": 30.0, "soft_prompt": 20.0, "lora": 40.0, "full": 40.2}
SEEDS = {"zero_shot": 1, "soft_prompt": 3, "lora": 6, "full": 6}


def looked_study(folder: Path, runs: dict[str, int] | None = None, **spec: object) -> Path:
    ids = [f"d{number:02d}" for number in range(DOCUMENTS)]
    StudyDir(folder).write_documents(Document(id=one, group=one, document="", references=("",)) for one in ids)
    for method, number in (runs or SEEDS).items():
        for seed in range(number):
            values = scores_of(method, seed, MEANS[method], DOCUMENTS)
            add_run(folder, method, seed, dict(zip(ids, values, strict=True)))
    write_spec(folder, methods=tuple(MEANS), until_settled=True, **spec)
    return folder
