# Two kinds of images from one file. Build with BuildKit; nothing is downloaded at run time.
#   app (default)  all stages and the command line
#       docker build --build-arg IMAGE_TAG=brainstages:0.1.0 -t brainstages:0.1.0 .
#   stage          one stage: its folder, the specs, what setup.cfg lists for it, nothing else
#       docker build --target stage --build-arg STAGE=harmonization \
#           -t brainstages-harmonization:0.1.0 .
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS source
WORKDIR /build
COPY setup.cfg pyproject.toml constraints.txt containers/install.sh README.md LICENSE ./
COPY specs specs

FROM source AS app-packages
ARG TORCH_VARIANT=cpu
ARG PIP_FIND_LINKS=""
RUN sh install.sh app ${TORCH_VARIANT}
COPY stages stages
COPY bids_app bids_app
RUN /opt/venv/bin/pip install --no-cache-dir --no-deps . \
    && /opt/venv/bin/python -c "import bids_app; print(bids_app.__version__)" > /version

FROM source AS stage-packages
ARG STAGE
ARG TORCH_VARIANT=cpu
ARG PIP_FIND_LINKS=""
RUN sh install.sh "${STAGE}" ${TORCH_VARIANT} \
    && sed -n 's/^version = //p' setup.cfg > /version
COPY stages stages
# Nothing is installed from here on.
RUN /opt/venv/bin/python -m pip uninstall --quiet --yes setuptools pip \
    && mkdir -p /opt/brainstages/stages \
    && cp -r specs /opt/brainstages \
    && cp -r stages/*.py "stages/${STAGE}" /opt/brainstages/stages

# What both have in common. Any user, a read-only root and no network must do: the only places to
# write are /tmp and what the caller binds.
FROM ${BASE_IMAGE} AS runtime
ARG IMAGE_TAG=""
ARG REVISION=""
ENV PATH=/opt/venv/bin:$PATH \
    BRAINSTAGES_IMAGE=${IMAGE_TAG} \
    HOME=/tmp \
    HF_HUB_OFFLINE=1 \
    LANG=C.UTF-8 \
    NO_ET=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
LABEL org.opencontainers.image.title="brainstages" \
      org.opencontainers.image.description="From a BIDS dataset of brain scans to derivatives, models and reports" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.ref.name="${IMAGE_TAG}" \
      org.opencontainers.image.revision="${REVISION}"
WORKDIR /tmp
USER 1000:1000

FROM runtime AS stage
ARG STAGE
LABEL brainstages.stage="${STAGE}"
COPY --from=stage-packages /opt /opt
COPY --from=stage-packages /version /version
ENV PYTHONPATH=/opt/brainstages
ENTRYPOINT ["python", "-m", "stages"]

FROM runtime AS app
COPY --from=app-packages /opt/venv /opt/venv
COPY --from=app-packages /version /version
ENTRYPOINT ["brainstages"]
