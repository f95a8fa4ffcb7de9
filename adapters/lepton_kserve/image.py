"""The predictor's image: a Dockerfile, Lepton's packages and pinned requirements."""

from __future__ import annotations

import platform
from pathlib import Path

from lepton_plugins.embedding import Embedding, write_packages

#: Of the user in the image and in the pod: any number but 0.
USER = 1000


def write_image(found: Embedding, to: Path, base_image: str | None, *, embed: bool) -> None:
    """Write the build context `to`: `docker build` needs nothing else."""
    to.mkdir()
    (to / "requirements.txt").write_text("\n".join(found.requirements) + "\n", encoding="utf-8")
    if embed:
        write_packages(found, to / "packages")
    (to / "Dockerfile").write_text(_dockerfile(base_image, embed=embed), encoding="utf-8")


def _dockerfile(base_image: str | None, *, embed: bool) -> str:
    base = base_image or f"python:{platform.python_version()}-slim"
    lines = [
        f"FROM {base}",
        "ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1",
        "COPY requirements.txt /opt/lepton/requirements.txt",
        "RUN python -m pip install --no-cache-dir --requirement /opt/lepton/requirements.txt",
    ]
    if embed:
        # KServe blocks PYTHONPATH: the packages are made known by a line in site-packages.
        purelib = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
        lines += [
            "COPY packages/ /opt/lepton/packages/",
            f'RUN echo /opt/lepton/packages > "$(python -c "{purelib}")/lepton.pth"',
        ]
    lines += [f"USER {USER}:{USER}", "EXPOSE 8080", 'ENTRYPOINT ["python", "-m", "lepton_kserve.predictor"]']
    return "\n".join(lines) + "\n"
