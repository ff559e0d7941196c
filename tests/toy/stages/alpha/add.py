"""Add a number to an image; can be told to misbehave, so that tests see what follows."""

import os
import signal
import socket
import time
from pathlib import Path

import nibabel as nib
import numpy as np


def run(*, image, offset, total, scans, addend, behaviour, seed):
    """Add ``addend`` and the number in ``offset``; refuse what is no 3D image."""
    if behaviour == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    if behaviour == "sleep":
        time.sleep(300)
    if behaviour == "trespass":
        Path(image).with_name("trespass").write_text("a step may not write here")
    if behaviour == "look":
        names = " ".join(name for _, name in socket.if_nameindex())
        raise ValueError(f"{image}: network interfaces: {names}.")
    volume = nib.load(image)
    if volume.ndim != 3:
        raise ValueError(f"{image}: {volume.ndim}D image, expected 3D; give one volume")
    extra = float(Path(offset).read_text()) if offset else 0.0
    data = np.asarray(volume.dataobj, dtype=np.float32) + addend + extra
    nib.Nifti1Image(data, volume.affine).to_filename(total)
    Path(scans).write_text(f"filename\tmean\nanat/{Path(total).name}\t{data.mean():.3f}\n")
