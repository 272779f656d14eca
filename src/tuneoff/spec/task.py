"""What a study asks a model to write: summaries, or other texts. The words that a study does not set follow from it."""

import re
from typing import Literal

Task = Literal["summary", "other"]

# Words for summaries in the languages that users have asked in; "resume" is left out, because of English CVs.
_ABOUT_SUMMARIES = re.compile(
    r"summar|\bsum\b|\bsums up\b|tl;?dr"
    r"|zusammenfass|\bfass\w*\b.*\bzusammen|samenvat|\bvat\b.*\bsamen|sammanfatt|sammendrag|resumé"
    r"|résum|resumen|resumir|resumo\b|resuma\b|riassu|sintesi\b|sintetiz"
    r"|streszcz|podsumuj|podsumow|shrnut|összefoglal|özet|tóm tắt|ringkas"
    r"|кратк|резюм|суммар|обобщ|сводк|περίληψ|סכם|תקציר|لخص|خلاصه|सारांश|संक्षेप"
    r"|摘要|总结|總結|概括|概述|要約|まとめ|요약",
    re.IGNORECASE | re.DOTALL,
)


def task_of(instruction: str) -> Task:
    """The task of an instruction. Without an instruction, it is what tuneoff is used for most: summaries."""
    return "summary" if not instruction.strip() or _ABOUT_SUMMARIES.search(instruction) else "other"
