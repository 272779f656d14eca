"""The page that shows a study while it runs: strict policy, and text that cannot act."""

import re

from support.report_study import HOSTILE
from tuneoff.report.watch_page import watch_page


def test_names_are_text_and_the_policy_is_strict() -> None:
    page = watch_page(HOSTILE)
    assert page.count("<script>") == 1
    assert "&lt;/script&gt;&lt;script&gt;alert(1)" in page
    assert "\u202e" not in page
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    assert "default-src &#39;none&#39;" in policy[1]
    assert "unsafe" not in policy[1]
    assert "connect-src &#39;self&#39;" in policy[1]
    assert "innerHTML" not in page
