# The page with its default model inside:
#   docker build -t hookscope .
#   docker run --rm -p 8050:8050 hookscope
# It prints an address with a token. With another port in front, as in -p 9000:8050, put that port into the address.
FROM python:3.12-slim

# tini is process 1: it passes signals on, and reaps what a killed worker leaves behind.
RUN apt-get update \
    && apt-get install -y --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 hookscope \
    && install -d -o hookscope -g hookscope -m 0700 /cache

WORKDIR /app

# First what changes seldom. PyPI's torch for Linux brings CUDA, about 5 GB; PIP_ARGS can name another index.
ARG PIP_ARGS=""
COPY requirements.txt requirements-fast.txt constraints.txt ./
RUN python -m pip install --no-cache-dir --disable-pip-version-check $PIP_ARGS \
    -r requirements.txt -r requirements-fast.txt -c constraints.txt

COPY LICENSE app.py ./
COPY src ./src
COPY hooks ./hooks
COPY dashboard ./dashboard
COPY assets ./assets
RUN python -m compileall -q app.py src/hookscope hooks dashboard

# Weights that a model downloads are kept with the answers, in the volume.
ENV HOOKSCOPE_HOST=0.0.0.0 \
    HOOKSCOPE_PORT=8050 \
    HOOKSCOPE_CACHE_DIR=/cache/hookscope \
    TORCH_HOME=/cache/torch \
    HF_HOME=/cache/huggingface \
    PYTHONUNBUFFERED=1
USER hookscope
VOLUME /cache
EXPOSE 8050

HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f\"http://127.0.0.1:{os.environ['HOOKSCOPE_PORT']}/healthz\", timeout=4)"]

ENTRYPOINT ["tini", "--", "python", "app.py"]
CMD []
