"""Work beside a block ends with it, also after an error."""

import threading

import pytest

from tuneoff.beside import beside


@pytest.mark.parametrize("fails", [False, True])
def test_work_beside_a_block_ends_with_it(*, fails: bool) -> None:
    began, said = threading.Event(), list[str]()

    def work(ended: threading.Event) -> None:
        began.set()
        said.append("ended" if ended.wait(10) else "never ended")

    def block() -> None:
        with beside(work):
            assert began.wait(10)
            assert said == []
            if fails:
                raise ValueError("of the block")

    if fails:
        with pytest.raises(ValueError, match="of the block"):
            block()
    else:
        block()
    assert said == ["ended"]
