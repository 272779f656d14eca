"""The data layer is light: reading text files loads neither torch nor transformers nor pyarrow nor datasets."""

import subprocess
import sys
from pathlib import Path


def test_reading_jsonl_imports_nothing_heavy(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f'{{"text": "document {n}", "summary": "s"}}\n' for n in range(3)))
    program = f"""
import sys
from tuneoff.data import load
from tuneoff.spec import DataSpec
load(DataSpec(train_file={str(path)!r}))
print(*sorted({{"torch", "transformers", "pyarrow", "datasets", "pandas"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
