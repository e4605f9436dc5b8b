"""How a wheel comes to hold the course: setuptools' build, which also copies notebooks/ into the package."""

import os
from pathlib import Path

from setuptools.command.build_py import build_py

SOURCE = Path("notebooks")
TARGET = Path("steerlab", "notebooks")
SUFFIXES = {".ipynb", ".py", ".md", ".png", ".csv", ".json"}


class BuildWithCourse(build_py):
    """The package and the notebooks; an editable install reads the latter where they are."""

    def _course(self) -> dict[Path, Path]:
        """Where each file of the course lies in the build, and where it comes from."""
        files = (path for path in sorted(SOURCE.rglob("*")) if path.suffix in SUFFIXES)
        kept = (path for path in files if not {".ipynb_checkpoints", "__pycache__"} & set(path.parts))
        return {self.build_lib / TARGET / path.relative_to(SOURCE): path for path in kept}

    def run(self) -> None:
        """Build the package, then copy."""
        super().run()
        if self.editable_mode:
            return
        for target, path in self._course().items():
            self.mkpath(os.fspath(target.parent))
            self.copy_file(os.fspath(path), os.fspath(target))

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """Everything that was built."""
        return [*super().get_outputs(include_bytecode), *map(os.fspath, self._course())]
