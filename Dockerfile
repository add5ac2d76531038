# The images of the trainer, of the client (--target client) and of the suggestion service (--target suggestion). Any OCI builder
# works. The build needs a base image and a Python package index, and nothing else.
#   docker build -t ghcr.io/gan-tuner/trainer:0.1.0-cuda .
#   docker build -t ghcr.io/gan-tuner/trainer:0.1.0-cpu --build-arg VARIANT=cpu --build-arg TORCH_INDEX=<PyTorch's index of CPU wheels> .
#   docker build -t ghcr.io/gan-tuner/client:0.1.0 --target client .
#   docker build -t ghcr.io/gan-tuner/suggestion:0.1.0 --target suggestion .
# BASE: pass it with a digest for reproducible builds, or name a local image. The tag alone can be moved to another image.
#   docker buildx imagetools inspect python:3.12.12-slim-bookworm       prints the digest
#   docker build --build-arg BASE=python:3.12.12-slim-bookworm@sha256:<digest> .
# The versions below are exact, but without hashes: TORCH_INDEX may name another index, whose wheels have other hashes.
# TORCH_INDEX: the default index has wheels that contain CUDA, so no CUDA base image is needed. For the small CPU image, give the
# index of CPU wheels from PyTorch's installation guide. Without it the CPU image works too, but is 2.6 GB larger.
# DATASET: the data set that is added to the image as the last, small layer.
ARG BASE=python:3.12.12-slim-bookworm
FROM ${BASE} AS build
ARG TORCH=2.15.0
ARG TORCHVISION=0.29.2
ARG TORCH_INDEX=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python3 -m venv /opt/venv
# torch comes first, because it is the largest layer and changes least often. torchvision, from the same index, reads mnist and
# fashion-mnist for trainer.prepare. triton (1 GB) is removed, because only torch.compile needs it and the trainer does not use it.
# Headers and static libraries are removed, because only compilers need them.
RUN /opt/venv/bin/pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "torch==${TORCH}" "torchvision==${TORCHVISION}" \
 && { /opt/venv/bin/pip uninstall -y triton || true; } \
 && cd /opt/venv/lib/python3*/site-packages \
 && find . -type d -name include '(' -path './torch/*' -o -path './nvidia/*' ')' -prune -exec rm -rf {} + \
 && find . -name "*.a" -delete

FROM build AS build-trainer
RUN /opt/venv/bin/pip install "numpy==2.4.6" "safetensors==0.8.0" "pillow==13.0.0" "prometheus-client==0.26.0" \
 && /opt/venv/bin/pip uninstall -y pip

FROM ${BASE} AS build-client
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python3 -m venv /opt/venv
# In a cluster the client submits, watches and reports. It does not need torch for that.
RUN /opt/venv/bin/pip install "optuna==5.0.0" "scipy==1.17.1" "ruamel.yaml==0.19.1" "pyyaml==6.0.4" "click==8.5.1" "rich==15.0.0" \
    "google-re2==1.1.20251105" "kubernetes==36.0.3" "kubeflow-katib==0.19.0" \
    "threadpoolctl==3.8.0" "pillow==13.0.0" \
 && /opt/venv/bin/pip uninstall -y pip

FROM ${BASE} AS build-suggestion
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python3 -m venv /opt/venv
RUN /opt/venv/bin/pip install "optuna==5.0.0" "scipy==1.17.1" "cmaes==0.13.1" "threadpoolctl==3.8.0" "ruamel.yaml==0.19.1" "pyyaml==6.0.4" \
    "google-re2==1.1.20251105" "kubernetes==36.0.3" "kubeflow-katib==0.19.0" \
 && /opt/venv/bin/pip uninstall -y pip

FROM ${BASE} AS suggestion
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="gan-tuner suggestion service" \
      org.opencontainers.image.description="Answers Katib's requests for suggestions with the samplers of gantune run --local" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build-suggestion /opt/venv /opt/venv
COPY tuner/ /app/tuner/
# One thread: a suggestion pod has a fraction of a core. The service writes no file.
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin PYTHONPATH=/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp \
    OMP_NUM_THREADS=1
WORKDIR /app
RUN python -c "import cmaes, optuna, scipy.stats, tuner.gp, tuner.suggestion.server"
USER 65532:65532
EXPOSE 6789
ENTRYPOINT ["python", "-m", "tuner.suggestion"]

FROM ${BASE} AS client
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="gan-tuner client" \
      org.opencontainers.image.description="gantune: submits Katib Experiments, watches them, collects the best trial" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build-client /opt/venv /opt/venv
COPY tuner/ /app/tuner/
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin PYTHONPATH=/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
WORKDIR /app
USER 65532:65532
ENTRYPOINT ["python", "-m", "tuner"]

FROM ${BASE} AS trainer
ARG VERSION=0.1.0
ARG VARIANT=cuda
ARG DATASET=digits
LABEL org.opencontainers.image.title="gan-tuner trainer (${VARIANT})" \
      org.opencontainers.image.description="Trains one GAN and prints its scores as Katib metrics" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build-trainer /opt/venv /opt/venv
COPY trainer/ /app/trainer/
# A run writes only to volumes (/output, /tmp, Katib's /var/log/katib), so the root file system can be read-only.
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin PYTHONPATH=/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
WORKDIR /app
# One short run tests the image and writes the bytecode files, which trials cannot write to a read-only root file system.
RUN PYTHONDONTWRITEBYTECODE="" python -m trainer --epochs=1 --evals=1 --output-dir=/tmp/run && rm -rf /tmp/*
# digits is part of the package. Another data set and its feature extractor are prepared here, so that no trial downloads anything.
RUN if [ "${DATASET}" != digits ]; then python -m trainer.prepare --dataset "${DATASET}" --data-dir /data; else mkdir -p /data; fi
USER 65532:65532
# There is no ENTRYPOINT: Katib wraps the manifest's command in `sh -c`, and must never look up the image's entry point.
CMD ["python", "-m", "trainer", "--help"]
