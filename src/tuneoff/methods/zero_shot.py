"""Zero-shot: the instruction alone. Nothing trains, so its learning curve is empty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuneoff.methods.base import AdaptedModel, Method
from tuneoff.prompts import Prompting

if TYPE_CHECKING:
    from tuneoff.data import Example
    from tuneoff.models import BaseModel

# Other wordings of the same instruction, for trials. They vary what prompts usually vary: brevity, form, role,
# faithfulness.
WORDINGS = (
    "{instruction}",
    "{instruction} Be brief.",
    "{instruction} Write one plain sentence of at most 25 words, without an introduction.",
    "You write precise summaries for experts. {instruction}",
    "{instruction} Use only what the text says.",
    "{instruction} Name the main finding first.",
    "Read the text. {instruction} Answer with the summary only.",
    "{instruction} Do not repeat the text word by word.",
)

WORDINGS_FOR_OTHER_TASKS = (
    "{instruction}",
    "{instruction} Be brief.",
    "{instruction} Use plain words, without an introduction.",
    "You are an expert, and precise. {instruction}",
    "{instruction} Use only what the text says.",
    "{instruction} Name the most important point first.",
    "Read the text. {instruction} Write the answer only.",
    "{instruction} Do not repeat the text word by word.",
)


@dataclass(frozen=True)
class ZeroShot(Method):
    """The prompt alone."""

    name = "zero_shot"
    title = "Zero-shot"
    source = "Radford et al. 2019, Language Models are Unsupervised Multitask Learners, section 3.6"
    citation = """@techreport{radford2019language,
  author = {Radford, Alec and Wu, Jeffrey and Child, Rewon and Luan, David and Amodei, Dario and Sutskever, Ilya},
  title = {Language Models are Unsupervised Multitask Learners},
  institution = {OpenAI},
  year = {2019}
}"""
    trains = False
    seeded = False
    choices = {"wording": WORDINGS}
    choices_for_other_tasks = {"wording": WORDINGS_FOR_OTHER_TASKS}

    wording: str = "{instruction}"

    @property
    def prompting(self) -> Prompting:
        return Prompting(self.wording)

    def apply(self, base: BaseModel, train: Sequence[Example], seed: int) -> AdaptedModel:
        return AdaptedModel(base.model, prompting=self.prompting)
