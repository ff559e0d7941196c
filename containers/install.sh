#!/bin/sh
# Install what an image runs into /opt/venv; shared by Dockerfile and singularity.def.
#   install.sh WHAT TORCH_VARIANT
# WHAT is a stage's name (only what setup.cfg lists for that stage) or app (all stages, and the app).
# TORCH_VARIANT is cpu or cuda. PIP_FIND_LINKS may name a folder or page that has the wheels.
set -eu
what=$1 variant=$2
python3 -m venv /opt/venv
export PATH=/opt/venv/bin:$PATH
if [ -n "${PIP_FIND_LINKS:-}" ]; then
    cpu_index=
else
    unset PIP_FIND_LINKS # an empty value would be a link to nothing
    cpu_index="--extra-index-url https://download.pytorch.org/whl/cpu"
fi

python - "$what" > /tmp/requirements.txt <<'PYTHON'
import configparser
import pathlib
import sys

what = sys.argv[1]
setup = configparser.ConfigParser()
setup.read("setup.cfg")
extras = dict(setup["options.extras_require"])
stages = [path.stem for path in pathlib.Path("specs").glob("*.yaml")]
if what == "app":
    texts = [setup["options"]["install_requires"], extras.get("demo", "")]
    texts += [extras[name] for name in stages if name in extras]
elif what in stages:
    texts = ["pyyaml >= 6", extras.get(what, "")]
else:
    sys.exit(f"STAGE={what!r}: no such stage; stages: {', '.join(sorted(stages))}")
print(*sorted({line for text in texts for line in text.split("\n") if line}), sep="\n")
PYTHON

# torch first and from its own index: asked for together with others, pip would take the build
# with CUDA, which is gigabytes larger.
torch=$(sed -n 's/^torch==\([0-9.]*\).*/\1/p' constraints.txt)
if grep -q '^torch' /tmp/requirements.txt; then
    case $variant in
        cpu) pip install --no-cache-dir $cpu_index -c constraints.txt "torch==$torch+cpu" ;;
        cuda) pip install --no-cache-dir -c constraints.txt "torch==$torch" ;;
        *) echo "TORCH_VARIANT=$variant: expected cpu or cuda" >&2; exit 1 ;;
    esac
fi
pip install --no-cache-dir -c constraints.txt -r /tmp/requirements.txt
rm /tmp/requirements.txt
# The libraries' own tests are a seventh of what was installed, and no run needs them; nor what
# onnxruntime brings along for making models.
find /opt/venv -type d \( -name tests -o -path '*/onnxruntime/tools' -o \
    -path '*/onnxruntime/quantization' -o -path '*/onnxruntime/transformers' \) -prune \
    -exec rm -rf {} +
