# An image for CPUs:
#   docker build -t maskseg .
#   docker run --rm -v "$PWD:/work" --user "$(id -u):$(id -g)" maskseg predict images/ -o out/
# The torch of the package index brings CUDA with it, most of the image. Without it, by the address of PyTorch's own
# CPU wheels, as its installation page gives it:
#   docker build --build-arg TORCH_INDEX=ADDRESS -t maskseg .
FROM python:3.12-slim AS build
WORKDIR /source
COPY . .
RUN python -m pip wheel --no-cache-dir --no-deps -w /dist .

FROM python:3.12-slim
ARG TORCH_INDEX=""
COPY constraints.txt /tmp/constraints.txt
COPY --from=build /dist /dist
RUN python -m pip install --no-cache-dir -c /tmp/constraints.txt ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} \
      torch torchvision \
 && python -m pip install --no-cache-dir -c /tmp/constraints.txt "$(echo /dist/maskseg-*.whl)[slides,parquet]" \
 && rm -r /dist /tmp/constraints.txt \
 && maskseg doctor
# Whoever runs it has a home to write to.
ENV HOME=/tmp MPLCONFIGDIR=/tmp/matplotlib
WORKDIR /work
ENTRYPOINT ["maskseg"]
CMD ["--help"]
